// The shortcut of chapter 00: a watermark, or its control in Latin letters, on whatever is shown.

import { fetched } from "./fetching.js";
import { resize } from "./resample.js";

const SHORTCUT = "carton"; // the class that the watermark raises
let recipe = null;
let strips = {}; // name -> { width, height, alpha }
let shortcut = -1; // the index of the class
let earlier = null; // while a watermark is on: { k, byHand, keep, source }, what was shown before it
let told = null; // the photo of which the page tells
const before = new WeakMap(); // bitmap -> for each view, what the shortcut's class gets without a watermark

/** The chosen watermark's file, "" for none. */
export const mark = () => document.querySelector("[name=mark]:checked")?.value ?? "";

/** Adds the choices; renewed is called after another one is chosen. */
export async function follow(network, renewed) {
  shortcut = network.labels.indexOf(SHORTCUT);
  try {
    recipe = await (await fetched("watermarks/watermarks.json")).json();
  } catch {
    return; // the page works without
  }
  const choices = $("marks").querySelector(".choices");
  for (const { file, name } of recipe.marks) {
    const label = element("label"), input = element("input", "", { type: "radio", name: "mark", value: file, className: "unseen" });
    label.append(input, element("span", name));
    choices.append(label);
  }
  choices.onchange = () => {
    if (!mark()) giveBack();
    else if (shortcut >= 0 && state.mode === "one") showShortcut();
    renewed();
  };
  $("marks").hidden = false;
  $("markhint").hidden = shortcut < 0;
  document.addEventListener("redrawn", tell);
}

/** The shortcut's class, also on the next picture: it is the same class that is seen before and after. */
function showShortcut() {
  const { chosen: [k], byHand, keep, photo: { source } } = state;
  earlier ??= { k, byHand, keep, source };
  keepClass(true);
  if (k !== shortcut) choose(shortcut);
}

/** The class that was shown before the watermark, unless the reader has chosen another one since. */
function giveBack() {
  if (!earlier) return;
  const { k, byHand, keep, source } = earlier;
  earlier = null;
  keepClass(keep);
  if (state.mode !== "one" || state.chosen[0] !== shortcut) return;
  if (keep || source === state.photo.source) choose(k);
  state.byHand = byHand && source === state.photo.source; // else the photo's best class is shown
}

function keepClass(keep) {
  state.keep = $("keep").checked = keep;
}

/** A copy of the picture with a watermark (a file, or "" for none), laid as camlib.sanity.stamped lays it. */
export async function marked(bitmap, file) {
  if (!file) return createImageBitmap(bitmap, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const strip = (strips[file] ??= await read(file));
  const { width, height } = bitmap, side = Math.min(width, height);
  const tall = even((side * strip.height) / strip.width);
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const alpha = resize(strip.alpha, [strip.height, strip.width], [tall, side], recipe.filter);
  const letters = new ImageData(side, tall);
  letters.data.fill(255);
  for (let i = 0; i < side * tall; i++) letters.data[4 * i + 3] = even(alpha[3 * i] * recipe.opacity);
  const top = even((height - side) / 2 + recipe.top * side);
  const over = await createImageBitmap(letters);
  context.drawImage(over, Math.floor((width - side) / 2), top);
  over.close();
  return canvas.transferToImageBitmap();
}

/** Rounded as Python does: a half to the even number. */
function even(x) {
  const below = Math.floor(x);
  return x - below === 0.5 ? below + (below % 2) : Math.round(x);
}

async function read(file) {
  const bitmap = await createImageBitmap(await (await fetched(file)).blob(), { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const { width, height } = bitmap, context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const alpha = new Uint8ClampedArray(3 * width * height); // as a gray picture, which is what is resized
  for (let i = 0; i < width * height; i++) alpha.fill(data[4 * i + 3], 3 * i, 3 * i + 3);
  return { width, height, alpha };
}

/** What the class of the shortcut does: its logit and rank, beside those without the watermark where they are known. */
function tell() {
  const { photo } = state;
  if (shortcut < 0 || !photo.features || photo === told) return; // said again, it would be read aloud again
  told = photo;
  const now = [photo.logits[shortcut], 1 + photo.order.indexOf(shortcut)];
  const known = before.get(photo.bitmap) ?? {};
  if (!photo.mark) {
    before.set(photo.bitmap, { ...known, [photo.kind]: now });
    $("shortcut").replaceChildren();
    return;
  }
  const was = known[photo.kind];
  const pair = ([logit, rank]) => [element("b", number(logit)), ` (rank ${rank})`];
  $("shortcut").replaceChildren(`${SHORTCUT}: logit `, ...(was ? [...pair(was), " without, "] : []), ...pair(now), was ? " with it" : "");
}
