// Saves what is shown: the picture with a line that says what it is, and the cells with the identity as numbers.

const SOFT = "#62605b";

export function listen() {
  $("picture").onclick = savePicture;
  $("values").onclick = () => save(new Blob([table()], { type: "text/csv" }), "csv");
}

const shownViews = () => views.filter((view) => !view.figure.hidden);

function lines(view) {
  const { photo, limit } = state;
  const sum = view.figure.querySelector(".identity").textContent.trim();
  const part = partOf(view.a)?.note; // while channels are added, the picture is not the whole map
  const end = number(limit, 1), from = state.positive ? "0" : `−${end}`;
  const colours = state.bare ? "Without colours." : `Colours from ${from} to +${end}, ${state.colours.title.toLowerCase()}.`;
  return [`${view.title}${part ? `, ${part}` : ""} — ${sum}`, `${photo.name}, ${photo.network}. ${colours}`];
}

async function savePicture() {
  const shown = shownViews(), { width, height } = state.photo;
  const letter = Math.max(13, Math.round(width / 44)), below = Math.round(letter * 3.6);
  const canvas = new OffscreenCanvas(width * shown.length, height + below), context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  shown.forEach((view, n) => {
    context.drawImage(view.canvas, n * width, 0);
    lines(view).forEach((line, row) => {
      context.font = `${row ? "" : "600 "}${letter - 2 * row}px system-ui, sans-serif`;
      context.fillStyle = row ? SOFT : "black";
      context.fillText(line, n * width + letter / 2, height + letter * (1.4 + 1.4 * row), width - letter);
    });
  });
  save(await canvas.convertToBlob({ type: "image/png" }), "png");
}

function table() {
  const { photo } = state, [rows, columns] = photo.grid;
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const head = [["photo", quoted(photo.name)], ["network", quoted(photo.network)], ["unit", quoted(photo.unit)]];
  const parts = shownViews().flatMap((view) => [
    [], ["class", quoted(view.title)], ...(partOf(view.a) ? [["added so far", quoted(partOf(view.a).note)]] : []), ["logit", view.logit], ["bias", view.bias],
    ["mean of the cells", view.cells.reduce((a, b) => a + b, 0) / view.cells.length],
    ["cells", ...Array.from({ length: columns }, (_, j) => j + 1)],
    ...Array.from({ length: rows }, (_, i) => [i + 1, ...view.cells.subarray(i * columns, (i + 1) * columns)]),
  ]);
  return [...head, ...parts].map((row) => row.join(",")).join("\r\n") + "\r\n";
}

function save(blob, kind) {
  const safe = (text) => text.toLowerCase().replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  const link = element("a", "", { href: URL.createObjectURL(blob), download: `${safe(state.photo.name)}-${shownViews().map((v) => safe(v.title)).join("-and-")}.${kind}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
