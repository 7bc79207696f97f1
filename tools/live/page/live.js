// The live page: a picture goes to the network, which runs in worker.js, and its answer into the explorer (explorer.js,
// which is a plain script, so that its names are here: page, state, show, prepared, redrawAll, …).

import { classMap, classifierRows, identity } from "./maps.js";
import { listen as listenForMotion } from "./moving.js";
import { bands } from "./pictures.js";
import { listen as listenForSaving } from "./saving.js";
import { listen as listenForPictures } from "./sources.js";
import { follow as followSum } from "./sum.js";
import { follow as followMark, mark as markNow, marked } from "./watermark.js";

const SIDE = 1024; // pixels: the explorer shows larger photos scaled down to this
const asked = new Map(); // what was sent to the worker, by its id
let network, rows, current;
let last = 0;

const worker = new Worker("worker.js", { type: "module" });
const answers = { progress, ready, explained, failed, skipped: ({ id }) => asked.delete(id) };
worker.onmessage = ({ data }) => answers[data.type](data);
worker.onerror = (event) => failed({ reason: `The page's worker could not start (${event.message ?? "no reason given"}).` });

export function says(text, loading = null) {
  $("doing").textContent = text;
  $("loading").hidden = loading === null;
  if (loading > 0) $("loading").value = loading;
  else $("loading").removeAttribute("value");
}

/** A sentence about what went wrong, until the next picture is shown. */
export function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
  if (text) says("");
}

function progress({ loaded, total }) {
  const size = (bytes) => (bytes / 1e6).toFixed(1);
  says(`Fetching the network: ${size(loaded)}${total ? ` of ${size(total)}` : ""} MB, once`, total ? loaded / total : 0);
}

async function ready(message) {
  network = message.network;
  const weights = await fetch("classifier.bin").catch(() => null);
  if (!weights?.ok) return failed({ reason: "classifier.bin could not be fetched. Reload the page to try again." });
  rows = classifierRows(await weights.arrayBuffer(), network.channels);
  $("whole").hidden = !network.multiple;
  says("");
  followMark(network, ask);
  if (current) ask();
  navigator.serviceWorker?.register("sw.js").catch(() => {}); // now, as it fetches what has just come; works without, too
}

function failed({ id, reason }) {
  const { moving } = asked.get(id) ?? {};
  asked.delete(id);
  moving?.(null);
  trouble(reason);
}

/** Another picture (ImageBitmap, which becomes this page's). moving: called when it is shown, for the next frame. */
export function take(name, bitmap, moving) {
  current?.bitmap.close();
  current = { name, bitmap, moving };
  ask();
}

/** The network's answer for the current picture, with its watermark and in the view that is chosen. */
export async function ask() {
  if (!current || !rows) return;
  const id = ++last;
  const { name, bitmap, moving } = current;
  const kind = document.querySelector("[name=view]:checked").value, mark = markNow();
  if (!moving) says("The network is looking …");
  try {
    const start = performance.now();
    const picture = await marked(bitmap, mark);
    const colour = await shownPixels(picture);
    if (id !== last) return picture.close(); // another one was asked for meanwhile
    asked.set(id, { name, moving, kind, mark, bitmap, colour, start });
    worker.postMessage({ type: "explain", id, bitmap: picture, view: kind }, [picture]);
  } catch (error) {
    if (id === last) failed({ id, reason: error.message }); // else its bitmap was closed for the next one
  }
}

/** The picture on white as ImageData, no side longer than SIDE. */
async function shownPixels(bitmap) {
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const small = scale < 1 ? await createImageBitmap(bitmap, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" }) : bitmap;
  const colour = new ImageData(width, height);
  let filled = 0;
  for (const { bytes } of bands(small)) {
    colour.data.set(bytes, filled);
    filled += bytes.length;
  }
  if (small !== bitmap) small.close();
  return colour;
}

function explained({ id, view, cells, features, logits, milliseconds }) {
  const { name, moving, kind, mark, colour, bitmap, start } = asked.get(id);
  asked.delete(id);
  if (id !== last && !moving) return; // another picture was chosen meanwhile
  const { labels } = network;
  const photo = prepared({
    name, network: network.network, method: "cam", unit: "logit evidence per cell", additive: true, rest: "bias",
    classes: network.classes ??= labels.map((_, k) => k),
    several: network.several ??= repeated(labels),
    names: labels, logits, probabilities: probabilitiesOf(logits), bias: Float32Array.from(network.bias),
    colour, views: [{ ...view, cells, of: (k) => (partOf(k) ? photo.part.map : classMap(rows[k], features, cells)) }],
    features, cells, rows, bitmap, kind, mark,
  });
  document.body.classList.remove("empty");
  for (const part of ["wait", "shortcut"]) $(part).ariaLive = moving ? "off" : "polite"; // no reader speaks as fast as a camera
  trouble("");
  show(photo, state.keep || Boolean(moving && state.chosenByHand));
  const whole = performance.now() - start;
  const ratio = milliseconds.network > 0 ? `, ${(whole / milliseconds.network).toFixed(1)} times the network alone` : "";
  says(`${Math.round(whole)} ms from picture to map${ratio}`);
  Object.assign(document.documentElement.dataset, { ready: "yes", shown: id, whole, network: milliseconds.network });
  moving?.(photo);
}

const repeated = (labels) => {
  const seen = new Map();
  labels.forEach((label) => seen.set(label, (seen.get(label) ?? 0) + 1));
  return [...labels.keys()].filter((k) => seen.get(labels[k]) > 1);
};

function probabilitiesOf(logits) {
  if (network.scores === "sigmoid") return logits.map((z) => 1 / (1 + Math.exp(-z)));
  if (network.scores !== "softmax") return null;
  const largest = Math.max(...logits);
  const powers = Float64Array.from(logits, (z) => Math.exp(z - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return Float32Array.from(powers, (power) => power / sum);
}

// The identity, from the numbers that are shown.
function check() {
  const { photo, chosen: [k] } = state;
  if (!photo?.features) return;
  const { error } = identity(classMap(rows[k], photo.features, photo.cells), photo.bias[k], photo.logits[k]);
  $("checked").textContent =
    `Checked here, for ${photo.names[k]}: the mean of the ${photo.cells[0] * photo.cells[1]} cells plus the bias is the ` +
    `network's own logit, to within ${error < 1e-7 ? "0.0000001" : error.toFixed(7)}.`;
  document.documentElement.dataset.error = error;
}

begin();
document.addEventListener("redrawn", check);
document.querySelectorAll("[name=view]").forEach((input) => { input.onchange = ask; });
for (const part of ["list", "search"]) // the reader's class stays while the camera's pictures change
  $(part).addEventListener(part === "list" ? "click" : "input", () => { state.chosenByHand = true; });
followSum();
listenForSaving();
listenForMotion({ take, trouble });
says("Fetching the network …", 0);
worker.postMessage({ type: "load" });
listenForPictures({ take, trouble });
