// Runs the network beside the page, so that the page never waits. The page sends
//
//   { type: "load" }
//   { type: "explain", id, bitmap: ImageBitmap, view: "crop" | "whole" }         with the bitmap transferred
//
// and gets
//
//   { type: "progress", loaded, total, what }      in bytes; total is 0 where it is not known
//   { type: "ready", network, milliseconds }       network: the content of network.json
//   { type: "explained", id, photo, view, cells, features, logits, milliseconds }
//   { type: "skipped", id }                        a newer picture came before this one's turn, as from a camera
//   { type: "failed", id, reason, memory }         without id: the network could not be loaded; memory: there is no more

import { fetched } from "./fetching.js";
import { bands } from "./pictures.js";
import { filters, resizer } from "./resample.js";
import { crop, whole } from "./views.js";

const RUNTIME = { script: "ort.wasm.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.wasm" };
const here = (name) => new URL(name, import.meta.url).href;

let loading = null; // a promise of { ort, session, network, levels }
let waiting = null; // the newest picture that has not had its turn
let running = false;

addEventListener("message", ({ data }) => {
  if (data.type === "load") load();
  if (data.type === "explain") explain(data);
});

async function load() {
  const start = performance.now();
  loading ??= loadAll();
  try {
    const { network } = await loading;
    postMessage({ type: "ready", network, milliseconds: performance.now() - start });
    next();
  } catch (error) {
    loading = null; // so that the page can try again
    postMessage({ type: "failed", ...readable(error) });
  }
}

async function loadAll() {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, or it is switched off, so it cannot run the network.");
  }
  const network = JSON.parse(new TextDecoder().decode(await fetchWhole("network.json")));
  if (!filters.includes(network.interpolation)) {
    throw new Error(`This page cannot resize as ${network.name} needs it (${network.interpolation}).`);
  }
  const external = (network.external ?? []).map(({ path }) => path); // files that network.onnx reads its weights from
  const [ort, wasm, model, ...data] = await fetchAll([RUNTIME.wasm, "network.onnx", ...external], network.bytes);
  ort.env.wasm.numThreads = 1; // more need headers that a static host does not send
  ort.env.wasm.wasmPaths = { wasm: here(RUNTIME.wasm) };
  ort.env.wasm.wasmBinary = wasm;
  const externalData = external.map((path, n) => ({ path, data: new Uint8Array(data[n]) }));
  const session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: ["wasm"],
    externalData,
  });
  return { ort, session, network, levels: levelsOf(network) };
}

/** The runtime's module, then the content of the files (ArrayBuffers), with progress over all of them together. */
async function fetchAll(names, sizes = {}) {
  const loaded = {};
  const totals = {};
  const sum = (numbers) => Object.values(numbers).reduce((a, b) => a + b, 0);
  const fetches = names.map((name) =>
    fetchWhole(name, (bytes, total) => {
      loaded[name] = bytes;
      totals[name] = sizes[name] ?? total;
      const known = names.every((each) => totals[each]);
      postMessage({ type: "progress", loaded: sum(loaded), total: known ? sum(totals) : 0, what: name });
    }),
  );
  return Promise.all([runtime(), ...fetches]);
}

async function runtime() {
  try {
    return await import(here(RUNTIME.script));
  } catch (error) {
    throw new Error(`${RUNTIME.script} could not be loaded (${error.message}).`, { cause: error });
  }
}

/** A file's content (ArrayBuffer). report(loaded, total) is called as it arrives; total is 0 if it is not known. */
async function fetchWhole(name, report = () => {}) {
  const response = await fetched(name);
  // Where a server compresses, Content-Length counts the compressed bytes, while what arrives here is unpacked.
  const packed = response.headers.get("Content-Encoding");
  const total = packed ? 0 : Number(response.headers.get("Content-Length") ?? 0);
  report(0, total);
  const parts = [];
  let loaded = 0;
  try {
    const reader = response.body.getReader();
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      parts.push(value);
      loaded += value.length;
      report(loaded, total);
    }
  } catch (error) {
    throw new Error(`${name} stopped arriving after ${loaded} bytes (${error.message}).`, { cause: error });
  }
  return new Blob(parts).arrayBuffer();
}

/** What each of the 256 values of each channel becomes: (value / 255 - mean) / std, rounded as PyTorch rounds. */
function levelsOf({ mean, std }) {
  const f = Math.fround;
  return mean.map((m, c) =>
    Float32Array.from({ length: 256 }, (_, value) => f(f(f(value / 255) - f(m)) / f(std[c]))),
  );
}

function explain(message) {
  if (waiting) {
    waiting.bitmap.close();
    postMessage({ type: "skipped", id: waiting.id });
  }
  waiting = message;
  next();
}

/** Takes the next picture, unless one is being worked on. */
async function next() {
  if (running || !waiting || !loading) return;
  running = true;
  const message = waiting;
  waiting = null;
  try {
    const { answer, transfer } = await answerTo(message, await loading);
    postMessage({ type: "explained", id: message.id, ...answer }, transfer);
  } catch (error) {
    postMessage({ type: "failed", id: message.id, ...readable(error) });
  } finally {
    message.bitmap.close();
  }
  setTimeout(() => { // after the messages that came in the meantime, so that only the newest picture is taken
    running = false;
    next();
  });
}

async function answerTo({ bitmap, view: kind }, { ort, session, network, levels }) {
  const { resize, size, multiple, interpolation } = network;
  const photo = [bitmap.height, bitmap.width];
  if (kind === "whole" && !multiple) throw new Error(`${network.name} takes pictures of one size only: see the crop.`);
  const view = kind === "whole" ? whole(photo, Math.min(...[size].flat()), multiple) : crop(photo, resize, size);

  const milliseconds = { read: 0, resize: 0, network: 0 };
  let since = performance.now();
  const took = (what) => {
    const now = performance.now();
    milliseconds[what] += now - since;
    since = now;
  };

  const resized = resizer(photo, view.resized, interpolation, view);
  for (const { bytes, number } of bands(bitmap, resized.rows)) {
    took("read");
    resized.add(bytes, number, 4);
    took("resize");
  }
  const x = normalised(resized.result(), levels);
  took("resize");

  const inputs = { x: new ort.Tensor("float32", x, [1, 3, ...view.size]) };
  const outputs = await session.run(inputs);
  const [features, logits] = [outputs.features, outputs.logits].map(({ data }) => Float32Array.from(data));
  const cells = outputs.features.dims.slice(2);
  took("network");

  const answer = { photo, view, cells, features, logits, milliseconds };
  return { answer, transfer: [features.buffer, logits.buffer] };
}

/** The network's input (3, H, W): the picture (H, W, 3), channel after channel. */
function normalised(picture, levels) {
  const pixels = picture.length / 3;
  const x = new Float32Array(picture.length);
  levels.forEach((level, c) => {
    for (let i = 0; i < pixels; i++) x[c * pixels + i] = level[picture[3 * i + c]];
  });
  return x;
}

/** An error as a sentence for a reader. ONNX Runtime reports a lack of memory in several ways. */
function readable(error) {
  const text = String(error?.message ?? error);
  if (/bad_alloc|out of memory|OOM|allocat|out of bounds|memory access|^\d+$/i.test(text)) {
    const reason = "There is not enough memory for this. Close other tabs, or take a smaller picture or the central crop.";
    return { reason, memory: true }; // after which the runtime may be of no more use
  }
  return { reason: text };
}
