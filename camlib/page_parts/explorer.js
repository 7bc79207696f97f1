"use strict";
const $ = id => document.getElementById(id);
const page = JSON.parse($("data").textContent);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const minus = text => text.replace("-", "\u2212");
const number = (value, digits = 2) => minus(value.toFixed(digits)).replace(/^\u2212(0\.?0*)$/, "$1");
const percent = part => part >= 0.01 ? `${(100 * part).toFixed(1)} %` : part > 0 && 100 * part < 0.01 ? "< 0.01 %" : `${(100 * part).toFixed(2)} %`;
const element = (tag, text = "", set = {}) => Object.assign(document.createElement(tag), { textContent: text }, set);

const FULL = page.paint.steps;           // from no colour to full colour
const OPAQUE = 0xff << 24;               // a pixel as one number: alpha, blue, green, red

const state = {
  photo: null, chosen: [0, 0], side: 0, mode: "one", alpha: page.alpha, colours: page.colours[0], positive: false,
  keep: false, byHand: false, hold: false, bare: false, limit: 1, cell: null,
};
let views;                  // two figures; the second is hidden unless two classes stand side by side

// ---- a photo and its maps

// What a page hands over: colour (ImageData), logits and probabilities and bias by class, names, classes, and views, each
// with its resized, offset, size, cells as camlib's View has them, and of(k): the cells of the map of class k.
function prepared(given) {
  const { width, height, data: p } = given.colour, gray = new Uint8Array(width * height), { logits, classes } = given;
  for (let k = 0; k < gray.length; k++)      // Rec. 601 in integers, as Pillow's convert("L")
    gray[k] = (19595 * p[4 * k] + 38470 * p[4 * k + 1] + 7471 * p[4 * k + 2] + 32768) >> 16;
  const grids = given.views.map(view => ({ ...view, y: weights(view, 0, height), x: weights(view, 1, width) }));
  const seen = {
    top: Math.max(...grids.map(l => l.y.first)), bottom: Math.min(...grids.map(l => l.y.last)),
    left: Math.max(...grids.map(l => l.x.first)), right: Math.min(...grids.map(l => l.x.last)),
  };
  const finest = grids.reduce((a, b) => b.cells[1] > a.cells[1] ? b : a);
  const grid = [0, 1].map(axis => Math.max(...grids.map(l => l.cells[axis])));
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  const twice = [...classes.keys()].filter(k => given.several.includes(classes[k]));
  return { ...given, width, height, gray, grids, seen, finest, grid, order, twice };
}

function weights(view, axis, pixels) {   // where each pixel's centre lies among the cells, and which pixels were seen
  const cells = view.cells[axis], tap = new Int32Array(pixels), part = new Float64Array(pixels);
  let first = pixels, last = -1;
  for (let i = 0; i < pixels; i++) {
    const place = ((i + 0.5) * view.resized[axis] / pixels - view.offset[axis]) / view.size[axis];
    const at = clamp(place * cells - 0.5, 0, cells - 1);
    tap[i] = Math.min(Math.floor(at), Math.max(0, cells - 2));
    part[i] = at - tap[i];
    if (place >= 0 && place <= 1) { first = Math.min(first, i); last = i; }
  }
  return last < 0 ? { tap, part, first: 0, last: pixels - 1 } : { tap, part, first, last };
}

function mapOf(a, b) {                   // of a class, or what speaks for a against b: one array of cells per view of the photo
  return state.photo.grids.map(grid => {
    const cells = Float64Array.from(grid.of(a));
    if (b !== undefined) grid.of(b).forEach((value, i) => { cells[i] -= value; });
    return cells;
  });
}

function finestCells(maps) {             // several resolutions on the finest grid, by area, as camlib's exp.maps
  if (maps.length === 1) return maps[0];
  const [rows, columns] = state.photo.grid, mean = new Float64Array(rows * columns);
  const overlap = (fine, i, coarse, j) =>
    Math.max(0, Math.min((i + 1) * coarse, (j + 1) * fine) - Math.max(i * coarse, j * fine)) / coarse;
  state.photo.grids.forEach((grid, n) => {
    const [h, w] = grid.cells;
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++)
      for (let r = 0; r < h; r++) for (let c = 0; c < w; c++)
        mean[i * columns + j] += overlap(rows, i, h, r) * overlap(columns, j, w, c) * maps[n][r * w + c] / maps.length;
  });
  return mean;
}

// ---- pixels

function lay(maps, heat) {               // bilinear onto the photo, as camlib.place; returns the ends, zero among them
  const { width, grids, seen } = state.photo;
  let low = 0, high = 0;
  heat.fill(0);
  maps.forEach((cells, n) => {
    const { x, y, cells: [rows, columns] } = grids[n], { tap, part } = x, line = new Float64Array(columns + 1);
    low = high = 0;
    for (let i = seen.top; i <= seen.bottom; i++) {
      const above = y.tap[i] * columns, below = rows > 1 ? above + columns : above, f = y.part[i];
      for (let c = 0; c < columns; c++) line[c] = (cells[above + c] * (1 - f) + cells[below + c] * f) / maps.length;
      for (let j = seen.left, k = i * width + j; j <= seen.right; j++, k++) {
        const left = line[tap[j]], v = heat[k] + left + (line[tap[j] + 1] - left) * part[j];
        heat[k] = v;
        if (v > high) high = v; else if (v < low) low = v;
      }
    }
  });
  return [low, high];
}

// As camlib.plot, in OKLab: the photo gives the lightness, the sign the hue, and the evidence the chroma.

const between = ([low, high], part) => low + (high - low) * part;
const light = Array.from({ length: 256 }, (_, gray) =>
  Math.cbrt(gray <= 10 ? gray / 255 / 12.92 : ((gray / 255 + 0.055) / 1.055) ** 2.4));
const under = light.map(part => between(page.paint.photo, part));
const CODES = Uint8Array.from({ length: 65536 }, (_, n) => {     // of linear light, in sRGB
  const c = n / 65535;
  return Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055));
});
const [toLms, toRgb] = page.paint.inverse;

function pixel(lightness, a, b) {        // hundreds of thousands at each move of a slider, so without arrays
  const cube = row => { const v = row[0] * lightness + row[1] * a + row[2] * b; return v * v * v; };
  const l = cube(toLms[0]), m = cube(toLms[1]), s = cube(toLms[2]);
  const code = row => CODES[clamp(65535 * (row[0] * l + row[1] * m + row[2] * s) + 0.5, 0, 65535) | 0];
  return OPAQUE | code(toRgb[2]) << 16 | code(toRgb[1]) << 8 | code(toRgb[0]);
}

const PALE = light.map(part => pixel(between(page.paint.pale, part), 0, 0));     // where the network never looked

function evidenceColour(value, gray) {   // value: -1 to 1
  const [lightness, a, b] = state.colours.ends[value < 0 ? 0 : 1];
  const strength = value < 0 && state.positive ? 0 : state.alpha * Math.abs(value), pull = page.paint.pull * strength;
  return pixel(under[gray] * (1 - pull) + lightness * pull, a * strength, b * strength);
}

function colourTable() {                 // the colour of every amount of evidence on every gray
  const table = new Int32Array((2 * FULL + 1) * 256);
  for (let step = -FULL; step <= FULL; step++)
    for (let gray = 0; gray < 256; gray++) table[(step + FULL) * 256 + gray] = evidenceColour(step / FULL, gray);
  return table;
}

function paint(view) {                   // unseen pixels are pale already
  const { width, gray, seen, colour } = state.photo, { heat, pixels, image } = view, { table } = state;
  if (state.bare) return view.context.putImageData(colour, 0, 0);
  const scale = FULL / state.limit;
  for (let i = seen.top; i <= seen.bottom; i++) {
    for (let k = i * width + seen.left, end = i * width + seen.right; k <= end; k++) {
      const step = Math.min(2 * FULL, Math.max(0, (heat[k] * scale + FULL + 0.5) | 0));
      pixels[k] = table[step << 8 | gray[k]];
    }
  }
  view.context.putImageData(image, 0, 0);
}

function paintBar() {                    // the scale's colours on a light gray
  const context = $("bar").getContext("2d"), image = context.createImageData(512, 1);
  new Int32Array(image.data.buffer).forEach((_, i, pixels) => {
    pixels[i] = evidenceColour(state.positive ? i / 511 : 2 * i / 511 - 1, 128);
  });
  context.putImageData(image, 0, 0);
}

// ---- what is shown

// Where a page adds a map up bit by bit: photo.part is { k, logit, note }, and of(k) gives the map so far.
const partOf = k => state.mode === "one" && state.photo.part?.k === k ? state.photo.part : undefined;

function shown() {                       // the maps on screen: which class, against which, and their sums
  const { chosen: [a, b], mode, photo } = state, { logits, bias } = photo;
  if (mode === "contrast")
    return [{ a, b, title: `${nameOf(a)}, against ${nameOf(b)}`, logit: logits[a] - logits[b], bias: bias ? bias[a] - bias[b] : null }];
  return (mode === "two" ? [a, b] : [a]).map(k => ({
    a: k, b: undefined, title: nameOf(k), logit: partOf(k)?.logit ?? logits[k], bias: bias ? bias[k] : null,
  }));
}

function redraw() {                      // new maps: lay them, put them on one scale, paint
  const { photo } = state, contents = shown();
  let largest = 0;
  views.forEach((view, n) => {
    view.figure.hidden = n >= contents.length;
    if (view.figure.hidden) return;
    const { a, b } = contents[n], laid = [a, b].join();
    Object.assign(view, contents[n]);
    if (view.laid !== laid) {            // only the class that changed
      const maps = mapOf(a, b);
      Object.assign(view, { laid, cells: finestCells(maps), ends: lay(maps, view.heat) });
    }
    largest = Math.max(largest, view.ends[1], state.positive ? 0 : -view.ends[0]);
  });
  if (!state.hold && !partOf(state.chosen[0])) state.limit = largest || 1;   // a part is on the scale of the whole
  $("views").classList.toggle("two", contents.length > 1);
  repaint();
  views.slice(0, contents.length).forEach((view, n) => {
    const [name, note] = view.figure.querySelector("figcaption").children;
    name.textContent = view.title;
    note.textContent = view.b === undefined
      ? partOf(view.a)?.note ?? `rank ${1 + photo.order.indexOf(view.a)} \u00b7 ${says(view.a)}`
      : `${says(view.a)} against ${says(view.b)}`;
    view.canvas.setAttribute("role", "img");
    view.canvas.setAttribute("aria-label", `Evidence for ${view.title} on the photo`);
    view.frame.setAttribute("aria-label", `Evidence for ${view.title}; the arrow keys move from cell to cell`);
    identity(view);
  });
  read();
  numbers();
  document.dispatchEvent(new Event("redrawn"));
}

function redrawAll() {                   // where the maps themselves have changed
  views.forEach(view => { view.laid = null; });
  redraw();
}

function recolour() {                    // another strength, other colours, or another sign
  state.table = colourTable();
  paintBar();
}

function repaint() {                     // the same maps on another scale or in other colours
  views.forEach(view => { if (!view.figure.hidden) paint(view); });
  const end = number(state.limit, state.limit < 1 ? 3 : 1), ticks = state.positive ? ["0", "", end] : [`\u2212${end}`, "0", `+${end}`];
  $("low").replaceChildren(ticks[0], element("i", state.positive ? "" : "  against"));
  $("middle").textContent = ticks[1];
  $("high").replaceChildren(element("i", "for  "), ticks[2]);
  const { seen, width, height, unit } = state.photo, all = seen.top + seen.left === 0 && seen.bottom === height - 1 && seen.right === width - 1;
  $("unit").textContent = unit + (state.mode === "two" ? ", both on one scale" : "") + (state.hold ? ", held" : "") + (all ? "" : ". Pale: not seen by the network.");
  $("strength").textContent = `${Math.round(100 * state.alpha)} %`;
  $("python").textContent = python();
  document.dispatchEvent(new Event("repainted"));
}

function identity(view) {                // mean of the cells + bias = logit, with as many digits as make the sum come out
  const line = view.figure.querySelector(".identity"), { rest } = state.photo, between = view.b !== undefined, logit = between ? "logit difference" : "logit";
  if (view.bias === null) {
    line.replaceChildren(`${logit} `, element("b", number(view.logit)), " \u2014 this method\u2019s maps do not sum to it");
    return;
  }
  const evidence = view.cells.reduce((sum, v) => sum + v, 0) / view.cells.length;
  const fits = d => (view.bias === 0 || Math.abs(view.bias) >= 0.5 * 10 ** -d) && Math.abs(+evidence.toFixed(d) + +view.bias.toFixed(d) - +view.logit.toFixed(d)) < 0.5 * 10 ** -d;
  const digits = [2, 3, 4].find(fits) ?? 2, write = value => element("b", number(value, digits));
  const first = fits(digits) ? evidence : +view.logit.toFixed(digits) - +view.bias.toFixed(digits);   // else the last digit is off
  const parts = [["mean of the cells ", write(first)], [view.bias < 0 ? "\u2212 " : "+ ", between && rest === "bias" ? "biases " : `${rest} `, write(Math.abs(view.bias))],
    [`= ${logit} `, write(view.logit)]];
  line.replaceChildren(...parts.flatMap(part => {
    const span = element("span");
    span.append(...part);
    return [span, " "];
  }));
}

const edges = (index, axis) => {         // of a row or column of cells on the photo, in its pixels
  const { finest, grid, width, height } = state.photo, side = axis ? width : height;
  return [index, index + 1].map(k => (k * finest.size[axis] / grid[axis] + finest.offset[axis]) * side / finest.resized[axis]);
};

function read() {                        // the value under the cursor
  const { cell, photo } = state, columns = photo.grid[1];
  views.forEach(view => {
    if (view.figure.hidden) return;
    const line = view.figure.querySelector(".reading"), boxes = view.figure.querySelectorAll("rect");
    boxes.forEach(box => { box.style.display = cell ? "" : "none"; });
    if (!cell) {
      line.textContent = "Point at the photo or tap it to read a cell, or move to it with Tab and then with the arrow keys.";
      return;
    }
    const [top, bottom] = edges(cell[0], 0), [left, right] = edges(cell[1], 1), value = view.cells[cell[0] * columns + cell[1]];
    for (const box of boxes)
      for (const [name, v] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) box.setAttribute(name, v);
    line.replaceChildren(`Row ${cell[0] + 1}, column ${cell[1] + 1}: `, element("b", number(value)));
    if (view.bias === null) return;
    const part = value / view.cells.length;
    line.append(part < 0 ? ", which takes " : ", which adds ", element("b", number(Math.abs(part))), part < 0 ? " from" : " to",
      view.b === undefined ? " the logit" : " the difference",
      view.logit > 0 ? `: ${number(100 * part / view.logit, 1)} % of ${number(view.logit)}` : ` of ${number(view.logit)}`);
  });
  $("mark").hidden = !cell || state.mode === "two";
  if (cell) {
    const place = clamp(views[0].cells[cell[0] * columns + cell[1]] / state.limit, -1, 1);
    $("mark").style.left = `${state.positive ? 100 * Math.max(0, place) : 50 + 50 * place}%`;
  }
}

function numbers() {                     // the same cells for readers who cannot see the picture
  if (!$("numbers").open) return;
  const [rows, columns] = state.photo.grid;
  $("numbers").querySelector(".scroll").replaceChildren(...views.filter(view => !view.figure.hidden).map(view => {
    const table = element("table"), most = Math.max(...view.cells), line = (...cells) => {
      const row = element("tr");
      row.append(...cells);
      return row;
    };
    table.append(element("caption", `${view.title}: ${state.photo.unit}`));
    table.append(line(element("td"), ...Array.from({ length: columns }, (_, j) => element("th", j + 1, { scope: "col" }))));
    for (let i = 0; i < rows; i++)
      table.append(line(element("th", i + 1, { scope: "row" }), ...Array.from(view.cells.subarray(i * columns, (i + 1) * columns),
        v => element("td", number(v), { className: v === most ? "most" : "" }))));
    return table;
  }));
}

function python() {                      // photo.python: the lines that make exp, where the page knows them
  const { photo } = state, pictures = overlays();
  if (!photo.python) return ["# exp is the explanation that this page was made from", ...pictures].join("\n");
  const file = n => JSON.stringify(`map${pictures.length > 1 ? n + 1 : ""}.png`);
  return [...photo.python, ...pictures.map((picture, n) => `Image.fromarray(${picture}).save(${file(n)})`)].join("\n");
}

function overlays() {                    // what is shown, each picture as an expression in Python
  const { chosen: [a, b], mode, photo } = state, target = k => photo.twice.includes(k) ? photo.classes[k] : JSON.stringify(photo.names[photo.classes[k]]);
  const style = [`limit=${+state.limit.toPrecision(6)}`, `alpha=${state.alpha}`, `cmap=${JSON.stringify(state.colours.name)}`].join(", ");
  if (state.bare) return ["exp.photo"];
  if (mode === "one" && !state.positive) return [`exp.overlay(${target(a)}, ${style})`];
  const maps = mode === "contrast" ? [`camlib.place(exp.contrast(${target(a)}, ${target(b)}), exp.view)`]
    : (mode === "two" ? [a, b] : [a]).map(k => `exp.heatmap(${target(k)})`);
  return maps.map(map => `camlib.overlay(exp.photo, ${map}${state.positive ? ".clamp(min=0)" : ""}, ${style})`);
}

// ---- classes

const nameOf = k => {
  const { names, classes, twice } = state.photo;
  return twice.includes(k) ? `${names[classes[k]]} (${classes[k]})` : names[classes[k]];
};
const probability = k => state.photo.probabilities?.[k];
const says = k => probability(k) === undefined ? `score ${number(state.photo.logits[k])}` : percent(probability(k));

function blankRow() {
  const row = element("li");
  row.setAttribute("role", "option");
  row.append(element("span"), element("span"));
  return row;
}

function fillList() {                    // classes whose name has all the words typed, highest score first
  const { photo } = state, words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = k => words.every(w => nameOf(k).toLowerCase().includes(w)) || words.join(" ") === String(photo.classes[k]);
  const matches = state.matches = photo.order.filter(fits);
  const list = $("list"), rows = [...list.children].slice(0, matches.length);   // kept, as new ones would flicker while a camera runs
  while (rows.length < matches.length) rows.push(blankRow());
  matches.forEach((k, n) => {
    const row = rows[n], [name, score] = row.children;
    row.id = `class${k}`;
    row.style.setProperty("--p", `${100 * (probability(k) ?? 0)}%`);
    name.textContent = nameOf(k);
    score.textContent = says(k);
  });
  if (rows.length !== list.children.length) list.replaceChildren(...rows);
  const all = photo.order.length, best = photo.probabilities ? "most probable" : "highest";
  const of = all < photo.names.length ? `the ${all} ${best} of ${photo.names.length}` : all, plural = photo.names.length > 1 ? "es" : "";
  $("count").textContent = words.length ? `${matches.length} of ${of} class${plural}` : `${of} class${plural}`;
  mark();
  return matches;
}

function listAll() {
  $("search").value = "";
  fillList();
}

function mark() {                        // the chosen class in the list
  state.row?.removeAttribute("aria-selected");
  const row = $(`class${state.chosen[state.side]}`), list = $("list");
  $("search").removeAttribute("aria-activedescendant");
  state.row = row;
  if (row) {
    row.setAttribute("aria-selected", "true");
    $("search").setAttribute("aria-activedescendant", row.id);
    const top = row.offsetTop, bottom = top + row.offsetHeight;   // by hand: scrollIntoView would move the page as well
    if (top < list.scrollTop) list.scrollTop = top - 4;
    if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight + 4;
  }
  [0, 1].forEach(side => { $(`name${side}`).textContent = nameOf(state.chosen[side]); });
}

function choose(k) {
  state.chosen[state.side] = k;
  state.byHand = true;
  mark();
  redraw();
  $("said").textContent = `${nameOf(k)}, ${says(k)}`;
}

function show(photo, keep = state.keep) {  // keep: the classes stay, if the photo has them
  const before = state.photo && state.photo.names === photo.names ? state.chosen.map(k => state.photo.classes[k]) : [];
  state.photo = photo;
  const again = keep || state.mode !== "one" ? before.map(k => photo.classes.indexOf(k)) : [];   // two stay, to be compared
  const stay = again.length > 0 && !again.includes(-1);
  state.chosen = stay ? again : [photo.order[0], photo.order[1] ?? photo.order[0]];
  state.byHand &&= stay;                 // whether the reader chose the class, or it is the photo's best
  state.cell = null;
  for (const view of views) {
    const { width, height } = photo;
    Object.assign(view.canvas, { width, height });
    view.frame.style.maxWidth = `max(15rem, calc(min(72vh, 46rem) * ${width / height}))`;
    view.image = view.context.createImageData(width, height);
    view.pixels = new Int32Array(view.image.data.buffer);
    photo.gray.forEach((g, k) => { view.pixels[k] = PALE[g]; });   // where the network never looked
    view.heat = new Float32Array(width * height);
    view.laid = null;
    view.figure.querySelector("svg").setAttribute("viewBox", `0 0 ${width} ${height}`);
    const lines = [0, 1].flatMap(axis => Array.from({ length: photo.grid[axis] + 1 }, (_, k) => {
      const [at] = edges(k, axis), [from, to] = [edges(0, 1 - axis)[0], edges(photo.grid[1 - axis] - 1, 1 - axis)[1]];
      return axis ? `M${at} ${from}V${to}` : `M${from} ${at}H${to}`;
    }));
    view.figure.querySelector(".grid").setAttribute("d", lines.join(""));
  }
  $("about").textContent = [photo.name, photo.network, photo.method, `${photo.grid[1]}\u00a0\u00d7\u00a0${photo.grid[0]}\u00a0cells`].join(" \u00b7 ");
  for (const input of document.querySelectorAll("[name=mode]"))
    input.parentElement.hidden = input.value === "contrast" && !photo.additive || input.value !== "one" && photo.classes.length < 2;
  if (document.querySelector("[name=mode]:checked").parentElement.hidden) setMode("one");
  fillList();
  redraw();
}

// ---- hands on

function moveTo(cell, aloud) {
  if (String(cell) === String(state.cell)) return;
  state.cell = cell;
  read();
  if (aloud) $("said").textContent = views.filter(v => !v.figure.hidden).map(v => v.figure.querySelector(".reading").textContent).join("; ");
}

function setMode(mode) {
  state.mode = mode;
  state.side = mode === "one" ? 0 : 1;
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  document.querySelectorAll("[name=side]")[state.side].checked = true;
  $("sides").hidden = mode === "one";
}

function makeView(figure) {
  const canvas = figure.querySelector("canvas"), frame = figure.querySelector(".frame");
  const view = { figure, frame, canvas, context: canvas.getContext("2d", { willReadFrequently: true }) };
  frame.onpointermove = frame.onpointerdown = event => {
    const box = canvas.getBoundingClientRect(), { finest, grid } = state.photo;
    const at = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    const cell = at.map((t, axis) => Math.floor((t * finest.resized[axis] - finest.offset[axis]) / finest.size[axis] * grid[axis]));
    moveTo(cell.every((c, axis) => c >= 0 && c < grid[axis]) ? cell : null, false);
  };
  frame.onpointerleave = event => { if (event.pointerType === "mouse") moveTo(null, false); };
  frame.onkeydown = event => {
    if (event.key === "Escape") return moveTo(null, false);
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const { grid } = state.photo, from = state.cell ?? grid.map((n, axis) => Math.floor(n / 2) - step[axis]);
    moveTo(from.map((c, axis) => clamp(c + step[axis], 0, grid[axis] - 1)), true);
  };
  return view;
}

function listen() {
  $("search").oninput = () => {
    const matches = fillList(), typed = $("search").value.trim().toLowerCase();
    const exact = matches.find(k => nameOf(k).toLowerCase() === typed);
    if (exact !== undefined) choose(exact);
  };
  $("search").onkeydown = event => {
    const rows = state.matches, at = rows.indexOf(state.chosen[state.side]);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.key === "Enter" && rows.length && at < 0) choose(rows[0]);
    if (event.key === "Escape") listAll();
    if (!step || !rows.length) return;
    event.preventDefault();
    choose(rows[at < 0 ? 0 : clamp(at + step, 0, rows.length - 1)]);
  };
  $("list").onclick = event => {
    const row = event.target.closest("li");
    if (row) choose(+row.id.slice(5));
  };
  document.querySelectorAll("[name=mode]").forEach(input => {
    input.onchange = () => {
      setMode(input.value);
      listAll();                         // what was typed was for the first class
      redraw();
    };
  });
  document.querySelectorAll("[name=side]").forEach(input => { input.onchange = () => { state.side = +input.value; listAll(); }; });
  document.querySelectorAll("[name=sign]").forEach(input => {
    input.onchange = () => { state.positive = input.value === "positive"; recolour(); redraw(); };
  });
  $("alpha").oninput = event => { state.alpha = event.target.value / 100; recolour(); repaint(); };
  $("colours").onchange = event => { state.colours = page.colours[event.target.selectedIndex]; recolour(); repaint(); };
  $("hold").onchange = event => { state.hold = event.target.checked; redraw(); };
  $("keep").onchange = event => { state.keep = event.target.checked; };
  $("bare").onchange = event => { state.bare = event.target.checked; repaint(); };
  $("grid").onchange = event => {
    document.querySelectorAll(".grid").forEach(path => { path.style.display = event.target.checked ? "" : "none"; });
  };
  $("numbers").ontoggle = numbers;
}

function thumbnails(list, chosen, choose) {  // the photos to choose from: each with its name and a picture
  $("photos").replaceChildren($("photos").firstElementChild, ...list.map(({ name, picture }, index) => {
    const label = element("label"), input = element("input", "", { type: "radio", name: "photo", className: "unseen", checked: index === chosen });
    input.onchange = () => choose(index);
    label.append(input, element("img", "", { src: picture, alt: "" }), element("span", name));
    return label;
  }));
  $("photos").hidden = $("keeping").hidden = list.length < 2;
}

function begin() {
  const figure = $("views").firstElementChild;
  $("views").append(figure.cloneNode(true));
  views = [...$("views").children].map(makeView);
  $("colours").append(...page.colours.map(c => element("option", c.title)));
  $("alpha").value = 100 * page.alpha;
  listen();
  $("grid").onchange({ target: $("grid") });
  recolour();
}
