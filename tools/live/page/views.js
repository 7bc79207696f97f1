// What the network sees of a photo, computed as camlib.views computes it. All sizes are [height, width] in pixels.

const LARGEST = 64_000_000; // the most pixels of a resized photo; only extremely long or flat photos exceed this
const LARGEST_INPUT = 8_000_000; // the most pixels that go through the network

/**
 * The photo resized, then its central `size` pixels.
 *
 * resize: pixels of the shorter side, or [height, width] regardless of the photo's proportions. size: the side of the
 * square window, or [height, width].
 */
export function crop(photo, resize, size) {
  const window = pair(size) ?? [size, size];
  check(photo, window, LARGEST_INPUT);
  const short = Math.min(...photo);
  const resized = pair(resize) ?? photo.map((side) => Math.floor((resize * side) / short));
  check(photo, resized, LARGEST);
  const offset = resized.map((side, axis) => centred(side, window[axis]));
  return { photo: [...photo], resized, offset, size: window };
}

/** The entire photo with its shorter side near `size`, both sides multiples of `multiple` unless `size` is tiny. */
export function whole(photo, size, multiple = 32) {
  const short = Math.min(...photo);
  const step = size >= 2 * multiple ? multiple : 1;
  const resized = photo.map((side) => Math.max(1, round((side * size) / short / step)) * step);
  check(photo, resized, LARGEST_INPUT);
  return { photo: [...photo], resized, offset: [0, 0], size: [...resized] };
}

/** The nearest whole number, and the even one where two are equally near, as in Python. */
function round(x) {
  const below = Math.floor(x);
  if (x - below === 0.5) return below % 2 === 0 ? below : below + 1;
  return x - below < 0.5 ? below : below + 1;
}

function pair(value) {
  return Array.isArray(value) ? [...value] : null;
}

/** Where a centred window starts; below 0 if the window is larger and is padded. */
function centred(side, window) {
  return window <= side ? round((side - window) / 2) : -Math.floor((window - side) / 2);
}

function check([height, width], [high, wide], largest) {
  if (high * wide > largest) {
    throw new RangeError(
      `A photo of ${width}×${height} pixels would become ${wide}×${high} for the network, which is too large. ` +
        "If it is long and thin, crop it to the part that matters.",
    );
  }
}
