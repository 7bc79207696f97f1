// Photos and maps that the page itself holds, as camlib laid them down.

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
const floats = text => new Float32Array(bytes(text));
const photos = new Map();   // decoded when first shown

async function open(index) {
  if (photos.has(index)) return photos.get(index);
  const raw = page.photos[index], image = new Image();
  image.src = raw.picture;
  await image.decode();
  const [width, height] = [image.naturalWidth, image.naturalHeight], canvas = element("canvas", "", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const photo = prepared({
    ...raw, colour: context.getImageData(0, 0, width, height), views: raw.views.map(decoded), logits: floats(raw.logits),
    probabilities: raw.probabilities && floats(raw.probabilities), bias: raw.bias && floats(raw.bias),
    names: page.labels[raw.labels],
  });
  photos.set(index, photo);
  return photo;
}

function decoded(view) {                 // 16 bits between each map's own ends
  const steps = new Uint16Array(bytes(view.steps)), ends = floats(view.ends), count = view.cells[0] * view.cells[1];
  const of = k => {
    const low = ends[2 * k], step = (ends[2 * k + 1] - low) / 65535;
    return Float64Array.from(steps.subarray(k * count, (k + 1) * count), q => low + q * step);
  };
  return { ...view, of };
}

async function start() {
  begin();
  thumbnails(page.photos, page.start, async index => show(await open(index)));
  show(await open(page.start));
  document.documentElement.dataset.ready = "yes";
}
start();
