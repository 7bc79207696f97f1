// Keeps the page's files, so that it works without a network after the first visit. The build fills in both constants:
// another digest is another version, which is fetched as a whole before it takes the old one's place.
const VERSION = "{version}";
const FILES = ["{files}"];
const CACHE = `camlib-live-${VERSION}`;

addEventListener("install", (event) => {
  const whole = caches.open(CACHE).then((cache) => cache.addAll(["./", ...FILES]));
  event.waitUntil(whole.then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  const others = caches.keys().then((names) => names.filter((name) => name.startsWith("camlib-live-") && name !== CACHE));
  event.waitUntil(others.then((names) => Promise.all(names.map((name) => caches.delete(name)))).then(() => clients.claim()));
});

addEventListener("fetch", (event) => {
  const kept = caches.match(event.request, { cacheName: CACHE, ignoreSearch: true });
  event.respondWith(kept.then((found) => found ?? fetch(event.request)));
});
