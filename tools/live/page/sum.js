// See the sum: the map of a class, and its logit, added up channel by channel, the largest contributions first.

import { classMap, contributions } from "./maps.js";
import { pause } from "./moving.js";

const SHOWN = 12; // channels as small pictures
const PACE = 130; // milliseconds a step
const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const [WIDTH, HEIGHT] = [600, 120]; // of the curve, in units of its own
let sum = null; // what is being added up: { photo, k, parts, steps, totals, low, high }
let colours = null; // in which the channels are painted: the explorer's table of them
let playing = 0;

export function follow() {
  document.addEventListener("redrawn", renew);
  document.addEventListener("repainted", repainted);
  $("sumstep").oninput = () => {
    stop();
    pause();
    go(Number($("sumstep").value));
  };
  $("sumplay").onclick = () => (playing ? stop() : start());
  CALM.onchange = stop;
  stop();
}

/** After another picture or class: everything is added, as the explorer shows it. */
function renew() {
  const { photo, chosen: [k], mode } = state;
  const possible = mode === "one" && photo.features;
  $("summing").hidden = !possible;
  if (!possible) {
    $("sumtext").textContent = "Choose One class under Compare to see how its map is added up.";
    stop();
    sum = null;
    if (!photo.part) return;
    photo.part = undefined;
    return redrawAll(); // with the whole maps
  }
  if (sum?.photo === photo && sum.k === k) return;
  stop();
  const parts = contributions(photo.rows[k], photo.features, photo.cells).sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  let total = photo.bias[k];
  const totals = [total, ...parts.map(({ value }) => (total += value))];
  sum = { photo, k, parts, totals, steps: stepsTo(parts.length), low: Math.min(0, ...totals), high: Math.max(0, ...totals) };
  photo.part = undefined;
  $("sumtext").textContent =
    `Before its last layer, the network has turned the picture into ${parts.length} small maps, its channels. The class ${nameOf(k)} has a weight for each. ` +
    "Weight × map is what a channel adds to the class map, and weight × mean is what it adds to the logit. The sum begins with the bias. " +
    "Press the button, or move the slider, and watch both grow.";
  $("sumstep").max = sum.steps.length - 1;
  $("sumstep").value = sum.steps.length - 1;
  drawCurve();
  drawChannels();
  tell(parts.length);
}

/** One by one at first, then in ever larger steps: 0, 1, 2, … 12, 14, … all. */
function stepsTo(all) {
  const steps = [0];
  while (steps.at(-1) < all) steps.push(Math.min(all, Math.max(steps.at(-1) + 1, Math.floor(steps.at(-1) * 1.16))));
  return steps;
}

function go(step) {
  const { photo, k, parts, totals, steps } = sum, n = steps[step];
  $("sumstep").value = step;
  if (n === parts.length) photo.part = undefined;
  else {
    const some = new Float32Array(parts.length);
    for (const { channel, weight } of parts.slice(0, n)) some[channel] = weight;
    const map = classMap(some, photo.features, photo.cells);
    photo.part = { k, map, logit: totals[n], note: `${n} of ${parts.length} channels` };
  }
  redrawAll();
  tell(n);
}

function tell(n) {
  const { totals, parts } = sum;
  const so = element("b", number(totals[n]));
  $("sumsays").replaceChildren(`${n} of ${parts.length} channels: logit `, so, ` of ${number(totals.at(-1))}`);
  $("sumstep").setAttribute("aria-valuetext", `${n} channels, logit ${number(totals[n])}`);
  markAdded();
  $("sumdot").style.left = percentOf(across(n), WIDTH);
  $("sumdot").style.top = percentOf(up(totals[n]), HEIGHT);
}

function markAdded() {
  const n = sum.steps[Number($("sumstep").value)];
  [...$("channels").children].forEach((item, i) => item.classList.toggle("added", i < n));
}

/** The map that grows, in small, because the large one may be out of sight; and the channels, in the colours of both. */
function repainted() {
  const { canvas } = views[0], small = $("sumpicture");
  small.width = 480;
  small.height = Math.max(1, Math.round((small.width * canvas.height) / canvas.width));
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  if (sum && colours !== state.table && state.photo === sum.photo) drawChannels();
}

function start() {
  pause();
  const last = sum.steps.length - 1;
  let step = Number($("sumstep").value);
  if (step === last) go((step = 0));
  if (CALM.matches) return go(step + 1);
  $("sumplay").textContent = "Pause";
  playing = setInterval(() => {
    go(++step);
    if (step < last) return;
    stop();
    $("said").textContent = $("sumsays").textContent;
  }, PACE);
}

function stop() {
  clearInterval(playing);
  playing = 0;
  $("sumplay").textContent = CALM.matches ? "Add the next channel" : "Add them one by one";
}

const percentOf = (part, whole) => `${((100 * part) / whole).toFixed(2)}%`;
const up = (value) => HEIGHT - ((value - sum.low) / (sum.high - sum.low || 1)) * HEIGHT;

/** Where a number of channels lies on the curve: above the slider's knob. */
function across(n) {
  const { steps } = sum, after = Math.max(1, steps.findIndex((step) => step >= n));
  const part = (n - steps[after - 1]) / (steps[after] - steps[after - 1]);
  return ((after - 1 + part) / (steps.length - 1)) * WIDTH;
}

function drawCurve() {
  const { k, parts, totals } = sum, curve = $("sumcurve"), all = totals.at(-1);
  const set = (name, values) => Object.entries(values).forEach(([key, value]) => curve.querySelector(name).setAttribute(key, value));
  set("polyline", { points: totals.map((total, n) => `${across(n).toFixed(1)},${up(total).toFixed(1)}`).join(" ") });
  for (const [name, value] of [["line.zero", 0], ["line.goal", all]]) set(name, { x1: 0, x2: WIDTH, y1: up(value), y2: up(value) });
  $("sumgoal").textContent = `logit ${number(all)}`;
  $("sumgoal").style.top = percentOf(up(all), HEIGHT);
  const marks = [0, 10, 100].filter((n) => n < parts.length).concat(parts.length);
  $("sumticks").replaceChildren(...marks.map((n) => {
    const tick = element("span", n);
    tick.style.left = percentOf(across(n), WIDTH);
    return tick;
  }));
  curve.setAttribute("aria-label", `The logit of ${nameOf(k)} while channels are added, from the bias ${number(totals[0])} to ${number(all)}.`);
}

function drawChannels() {
  const { photo, parts } = sum, first = parts.slice(0, SHOWN), [h, w] = photo.cells;
  const maps = first.map(({ channel, weight }) => photo.features.subarray(channel * h * w, (channel + 1) * h * w).map((v) => v * weight));
  const largest = Math.max(...maps.flatMap((map) => [...map].map(Math.abs))) || 1; // all on one scale
  colours = state.table;
  $("channels").replaceChildren(...first.map(({ channel, weight, mean: average, value }, i) => {
    const item = element("li"), canvas = element("canvas", "", { width: w, height: h });
    const context = canvas.getContext("2d"), image = context.createImageData(w, h), dots = new Int32Array(image.data.buffer);
    maps[i].forEach((v, cell) => { dots[cell] = evidenceColour(v / largest, 128); });
    context.putImageData(image, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Channel ${channel}, times its weight`);
    item.append(canvas, `channel ${channel}`, element("br"), `${number(weight, 3)} × ${number(average)} = `, element("b", `${value < 0 ? "" : "+"}${number(value)}`));
    return item;
  }));
  markAdded();
}
