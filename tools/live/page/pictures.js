// Picture files in the browser, read as camlib reads them: upright, and with the colours as they are stored.

const MOST_BYTES = 2 ** 30; // these three as in camlib.images
const MOST_PIXELS = 100_000_000;
const MOST_SIDE = 2 ** 20;
const HEADER = 2 ** 20; // bytes at the start of a file among which its size is looked for

// camlib applies the EXIF orientation and ignores colour profiles. Opacity stays beside the colours until `bands` puts
// the picture on white: some decoders round down when they multiply them.
const AS_CAMLIB = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };

/** The picture in a file (Blob or File) as an ImageBitmap. Where that fails, an Error says why, in a reader's words. */
export async function bitmapOf(blob, name = blob.name || "The picture") {
  if (blob.size === 0) throw new Error(`${name} is empty.`);
  if (blob.size > MOST_BYTES) throw new Error(`${name} is larger than 1 GiB.`);
  const header = new Uint8Array(await blob.slice(0, HEADER).arrayBuffer());
  const [width, height] = declaredSize(header); // before it is decoded, which takes 4 bytes a pixel
  checkSize(name, width, height);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, AS_CAMLIB);
  } catch (error) {
    throw new Error(`${name} ${whyNot(header, error)}`, { cause: error });
  }
  try {
    checkSize(name, bitmap.width, bitmap.height);
  } catch (error) {
    bitmap.close();
    throw error;
  }
  return bitmap;
}

function checkSize(name, width, height) {
  if (width * height > MOST_PIXELS || Math.max(width, height) > MOST_SIDE) {
    const most = `more than this page reads (${MOST_PIXELS / 1e6} million)`;
    throw new Error(`${name} has ${width}×${height} pixels, ${most}. Scale it down.`);
  }
}

const KINDS = { pdf: "a PDF", svg: "a drawing (SVG)", tiff: "a TIFF", heic: "a HEIC picture or a video" };

function kindOf(bytes) {
  const text = String.fromCharCode(...bytes.subarray(0, 1000));
  if (text.startsWith("%PDF")) return "pdf";
  if (/<svg[\s>]/.test(text)) return "svg";
  if (/^(II\*\0|MM\0\*)/.test(text)) return "tiff";
  if (text.slice(4, 8) === "ftyp") return "heic";
  if (/^(\xff\xd8\xff|\x89PNG|GIF8|BM|RIFF....WEBP)/s.test(text)) return "picture";
  return "other";
}

function whyNot(bytes, error) {
  const kind = kindOf(bytes);
  if (error instanceof RangeError || /memory|alloc/i.test(error.message)) return "needs more memory than there is.";
  if (kind === "picture") return "cannot be decoded: it is damaged or cut off, or too large for this browser.";
  if (kind === "other") return "is not a picture that this browser reads. Try a JPEG, PNG, WebP or GIF.";
  return `is ${KINDS[kind]}, which this browser does not read as a picture. Save it as JPEG or PNG.`;
}

/** [width, height] that a JPEG, PNG, WebP, GIF or BMP declares; [0, 0] where its header does not tell. */
export function declaredSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  try {
    if (text(1, 4) === "PNG") return [view.getUint32(16), view.getUint32(20)];
    if (text(0, 4) === "GIF8") return [view.getUint16(6, true), view.getUint16(8, true)];
    if (text(0, 2) === "BM") return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
    if (text(8, 12) === "WEBP") return webpSize(view, text(12, 16));
    if (text(0, 2) === "\xff\xd8") return jpegSize(view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the header is cut off
  }
  return [0, 0];
}

function webpSize(view, chunk) {
  if (chunk === "VP8X") return [24, 27].map((at) => 1 + view.getUint16(at, true) + 65536 * view.getUint8(at + 2));
  if (chunk === "VP8 ") return [26, 28].map((at) => view.getUint16(at, true) & 0x3fff);
  if (chunk === "VP8L") return [0, 14].map((shift) => 1 + ((view.getUint32(21, true) >>> shift) & 0x3fff));
  return [0, 0];
}

function jpegSize(view) {
  for (let at = 2; ; ) {
    const marker = view.getUint8(at + 1);
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2); // a marker may be preceded by any number of 0xff
  }
}

const BAND = 2 ** 20; // pixels that are read at a time

/**
 * The pixels of a bitmap on white, in bands of rows: each is { bytes, number } with 4 bytes a pixel.
 *
 * rows: [from, to), all by default. A picture is drawn band by band, because phones limit the size of a canvas.
 */
export function* bands(bitmap, [from, to] = [0, bitmap.height]) {
  const number = Math.min(Math.max(1, Math.floor(BAND / bitmap.width)), Math.max(1, to - from));
  const context = drawing(bitmap.width, number);
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  for (let y = from; y < to; y += number) {
    const here = Math.min(number, to - y);
    // Over white, the browser computes colour × opacity + 255 − opacity with one rounding, as Pillow does.
    context.fillRect(0, 0, bitmap.width, here);
    context.drawImage(bitmap, 0, y, bitmap.width, here, 0, 0, bitmap.width, here);
    yield { bytes: context.getImageData(0, 0, bitmap.width, here).data, number: here };
  }
}

function drawing(width, height) {
  const options = { alpha: false, willReadFrequently: true }; // the second: keep it out of the graphics card
  const context = globalThis.OffscreenCanvas && new OffscreenCanvas(width, height).getContext("2d", options);
  if (!context) throw new Error("This browser is too old: it cannot read a picture's pixels in the background.");
  return context;
}
