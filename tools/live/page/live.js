// The live page: a picture goes to the network, which runs in worker.js, and its answer into the explorer (explorer.js,
// which is a plain script, so that its names are here: page, state, show, prepared, redrawAll, …).

import { classMap, classifierRows, identity } from "./maps.js";
import { listen as listenForMotion } from "./moving.js";
import { fetched } from "./fetching.js";
import { bands } from "./pictures.js";
import { listen as listenForSaving } from "./saving.js";
import { listen as listenForPictures } from "./sources.js";
import { follow as followSum } from "./sum.js";
import { follow as followMark, mark as markNow, marked } from "./watermark.js";

const SIDE = 1024; // pixels: the explorer shows larger photos scaled down to this
const asked = new Map(); // what was sent to the worker, by its id
const untried = new Map(); // what could not be fetched -> a function that tries again
const answers = { progress, ready, explained, failed, skipped: ({ id }) => asked.delete(id) };
let worker, network, rows, current;
let broken = null; // "network": the worker could not load it, "memory": it ran out of memory
let last = 0;

/** A worker that loads the network; for the second time after a failure. */
function start() {
  worker?.terminate();
  asked.clear();
  broken = null;
  trouble("");
  says("Fetching the network …", 0);
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => answers[data.type](data);
  worker.onerror = (event) => failed({ reason: `The page's worker could not start (${event.message ?? "no reason given"}).` });
  worker.postMessage({ type: "load" });
}

export function says(text, loading = null) {
  $("doing").textContent = text;
  $("loading").hidden = loading === null;
  if (loading > 0) $("loading").value = loading;
  else $("loading").removeAttribute("value");
}

/** A sentence about what went wrong, until the next picture is shown. again: tries once more to fetch it, at a button. */
export function trouble(text, what = "photo", again = null) {
  if (again) untried.set(what, again);
  else untried.delete("photo");
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
  $("again").hidden = !text || !untried.size;
  if (text) says("");
}

function progress({ loaded, total }) {
  if (broken) return; // other files may still arrive
  const size = (bytes) => (bytes / 1e6).toFixed(1);
  says(`Fetching the network: ${size(loaded)}${total ? ` of ${size(total)}` : ""} MB, once`, total ? loaded / total : 0);
}

async function ready(message) {
  const first = !rows;
  network = message.network;
  try {
    rows = classifierRows(await (await fetched("classifier.bin")).arrayBuffer(), network.channels);
  } catch (error) {
    return failed({ reason: error.message });
  }
  $("whole").hidden = !network.multiple;
  says("");
  untried.delete("network");
  if (first) followMark(network, ask);
  if (current) ask();
  navigator.serviceWorker?.register("sw.js").catch(() => {}); // now, as it fetches what has just come; works without, too
}

function failed({ id, reason, memory = false }) {
  const { moving } = asked.get(id) ?? {};
  asked.delete(id);
  broken = memory ? "memory" : id === undefined ? "network" : null;
  trouble(reason, "network", broken ? start : null);
  moving?.(null);
}

/**
 * Another picture (ImageBitmap, which becomes this page's).
 *
 * path: of one of the course's photos. moving: called when the picture is shown, for the next frame. source: what the
 * frames of one video or camera have in common; while it stays, so does a class that the reader chose.
 */
export function take(name, bitmap, { path = null, moving = null, source = bitmap } = {}) {
  current?.bitmap.close();
  current = { name, path, bitmap, moving, source };
  ask();
}

/** The picture on the screen stays: no frame that is still worked on takes its place. */
function hold() {
  last++;
  for (const id of asked.keys()) asked.set(id, null);
}

/** The network's answer for the current picture, with its watermark and in the view that is chosen. */
export async function ask() {
  if (broken === "network") return; // "Try again" stands beside what was said
  if (broken === "memory") return start(); // which asks again
  if (!current || !rows) return;
  const id = ++last;
  const { name, path, bitmap, moving, source } = current;
  const kind = document.querySelector("[name=view]:checked").value, mark = markNow();
  if (!moving) says("The network is looking …");
  try {
    const begun = performance.now();
    const picture = await marked(bitmap, mark);
    const colour = await shownPixels(picture);
    if (id !== last) return picture.close(); // another one was asked for meanwhile
    asked.set(id, { name, path, bitmap, moving, source, kind, mark, colour, begun });
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
  const question = asked.get(id);
  asked.delete(id);
  if (!question || (id !== last && !question.moving)) return; // another picture was chosen meanwhile
  const { name, path, bitmap, moving, source, kind, mark, colour, begun } = question;
  const { labels } = network;
  const photo = prepared({
    name, network: network.network, method: "class activation map", unit: "logit evidence per cell", additive: true, rest: "bias",
    classes: network.classes ??= labels.map((_, k) => k),
    several: network.several ??= repeated(labels),
    names: labels, logits, probabilities: probabilitiesOf(logits), bias: Float32Array.from(network.bias),
    colour, views: [{ ...view, cells, of: (k) => (partOf(k) ? photo.part.map : classMap(rows[k], features, cells)) }],
    features, cells, rows, bitmap, source, kind, mark, python: python(name, path, kind, mark),
  });
  document.body.classList.remove("empty");
  for (const part of ["wait", "shortcut"]) $(part).ariaLive = moving ? "off" : "polite"; // no reader speaks as fast as a camera
  trouble("");
  show(photo, state.keep || (state.byHand && state.photo.source === source));
  const whole = performance.now() - begun;
  const ratio = milliseconds.network > 0 ? `, ${(whole / milliseconds.network).toFixed(1)} times as long as the network alone` : "";
  says(`This map took ${(whole / 1000).toFixed(2)} s${ratio}.`);
  Object.assign(document.documentElement.dataset, { ready: "yes", shown: id, whole, network: milliseconds.network });
  moving?.(photo);
}

/** Python that makes the same explanation. */
function python(name, path, kind, mark) {
  const quoted = JSON.stringify;
  return [
    "import camlib", ...(mark ? ["import numpy as np"] : []), "from PIL import Image", "",
    network.by_name ? `clf = camlib.load_model(${quoted(network.name)})` : "clf = ...  # the classifier that this page was built from",
    `photo = camlib.read_image(${quoted(path ? `data/${path}` : name)})  # ${path ? "in the course's folder" : "your picture"}`,
    ...(mark ? [`strip = np.asarray(Image.open(${quoted(`data/${mark}`)}).convert("RGBA"))`, "photo, _ = camlib.sanity.stamped(photo, strip)"] : []),
    `exp = camlib.explain(clf, photo${kind === "whole" ? ', view="whole"' : ""})`,
  ];
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
    `Checked just now, for ${nameOf(k)}: the mean of the ${photo.cells[0] * photo.cells[1]} cells plus the bias is the ` +
    `network's own logit, to within ${error < 1e-7 ? "0.0000001" : error.toFixed(7)}. So the cells and the bias make up the whole score: nothing is left out.`;
  document.documentElement.dataset.error = error;
}

begin();
document.addEventListener("redrawn", check);
$("again").onclick = () => {
  const all = [...untried.values()];
  untried.clear();
  trouble("");
  for (const again of all) again();
};
document.querySelectorAll("[name=view]").forEach((input) => { input.onchange = ask; });
followSum();
listenForSaving();
listenForMotion({ take, trouble, hold });
start();
listenForPictures({ take, trouble });
