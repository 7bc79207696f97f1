// See the sum: the map of a class, and its logit, added up channel by channel, the largest contributions first.

import { classMap, contributions, mean } from "./maps.js";

const SHOWN = 12; // channels as small pictures
const PACE = 130; // milliseconds a step
const [WIDTH, HEIGHT, EDGE] = [600, 150, 22];
let sum = null; // what is being added up: { photo, k, parts, steps, totals, low, high }
let playing = 0;

export function follow() {
  document.addEventListener("redrawn", renew);
  $("sumstep").oninput = () => {
    stop();
    go(Number($("sumstep").value));
  };
  $("sumplay").onclick = () => (playing ? stop() : start());
  document.querySelector(".panel").addEventListener("change", () => { // of colours or their strength, perhaps
    if (!sum) return;
    draw();
    tell(sum.steps[Number($("sumstep").value)]);
  });
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
    `Each of the ${parts.length} channels is a map of its own. Weight × mean is what it adds to the logit of ${nameOf(k)}; ` +
    "weight × map is what it adds to the class map. The bias comes first.";
  $("sumstep").max = sum.steps.length - 1;
  $("sumstep").value = sum.steps.length - 1;
  draw();
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
  [...$("channels").children].forEach((item, i) => item.classList.toggle("added", i < n));
  const [x, y] = place(n);
  copy();
  const dot = $("sumcurve").querySelector("circle");
  dot.setAttribute("cx", x);
  dot.setAttribute("cy", y);
}

/** The map that grows, in small, because the large one may be out of sight. */
function copy() {
  const { canvas } = views[0], small = $("sumpicture");
  small.width = 480;
  small.height = Math.max(1, Math.round((small.width * canvas.height) / canvas.width));
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
}

function start() {
  const last = sum.steps.length - 1;
  let step = Number($("sumstep").value);
  if (step === last) go((step = 0));
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
  $("sumplay").textContent = "Add them one by one";
}

/** Where a number of channels lies on the curve: the root of the number across, so that the first ones are seen. */
function place(n) {
  const { totals, low, high } = sum;
  const up = (value) => HEIGHT - EDGE - ((value - low) / (high - low || 1)) * (HEIGHT - 2 * EDGE);
  return [EDGE + Math.sqrt(n / sum.parts.length) * (WIDTH - 2 * EDGE), up(totals[n]), up];
}

function draw() {
  const { photo, k, parts, totals } = sum, curve = $("sumcurve"), up = place(0)[2];
  const set = (name, values) => Object.entries(values).forEach(([key, value]) => curve.querySelector(name).setAttribute(key, value));
  set("polyline", { points: totals.map((_, n) => place(n).slice(0, 2).map((v) => v.toFixed(1)).join()).join(" ") });
  for (const [name, value] of [["line.zero", 0], ["line.goal", totals.at(-1)]])
    set(name, { x1: EDGE, x2: WIDTH - EDGE, y1: up(value), y2: up(value) });
  set("text.goal", { x: EDGE, y: up(totals.at(-1)) - 6 });
  curve.querySelector("text.goal").textContent = `logit ${number(totals.at(-1))}`;
  set("text.end", { x: WIDTH - EDGE, y: HEIGHT - 3, "text-anchor": "end" });
  curve.querySelector("text.end").textContent = `${parts.length} channels added (on a square-root scale)`;
  curve.setAttribute("aria-label", `The logit of ${nameOf(k)} while channels are added, from the bias ${number(totals[0])} to ${number(totals.at(-1))}.`);

  const first = parts.slice(0, SHOWN), [h, w] = photo.cells;
  const maps = first.map(({ channel, weight }) => photo.features.subarray(channel * h * w, (channel + 1) * h * w).map((v) => v * weight));
  const largest = Math.max(...maps.flatMap((map) => [...map].map(Math.abs))) || 1; // all on one scale
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
}
