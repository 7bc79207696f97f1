// Resizes a photo exactly as Pillow does, byte for byte. A canvas resamples differently, and the logits would differ.
//
// Pillow (src/libImaging/Resample.c, version 13) makes each pixel of a row a weighted sum of the pixels near it,
// rounds the sum to 8 bits, and then does the same along the columns. When a photo is made smaller, the filter is
// stretched, so that every pixel counts. The weights are whole numbers, 2 ** 22 for 1.

const BITS = 22;
const HALF = 1 << (BITS - 1);

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: cubic },
  lanczos: { reach: 3, weight: (x) => (-3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

export const filters = Object.keys(FILTERS);

function cubic(x) {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/**
 * The weights along one axis, for the pixels `from` to `to` (exclusive) of the resized photo: pixel `from + i` sums the
 * `count[i]` pixels from `first[i]`, with the weights from `weights[i * most]`.
 */
function weightsOf(side, resized, from, to, filter) {
  const { reach, weight } = FILTERS[filter];
  const scale = side / resized;
  const stretch = Math.max(1, scale);
  const support = reach * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to - from);
  const count = new Int32Array(to - from);
  const weights = new Int32Array((to - from) * most);
  const real = new Float64Array(most);
  for (let i = 0; i < to - from; i++) {
    const centre = (from + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const number = Math.min(side, Math.trunc(centre + support + 0.5)) - start;
    let sum = 0;
    for (let n = 0; n < number; n++) {
      real[n] = weight((n + start - centre + 0.5) * (1 / stretch));
      sum += real[n];
    }
    for (let n = 0; n < number; n++) {
      const whole = (sum ? real[n] / sum : real[n]) * 2 ** BITS;
      weights[i * most + n] = Math.trunc(whole < 0 ? whole - 0.5 : whole + 0.5);
    }
    first[i] = start;
    count[i] = number;
  }
  return { first, count, weights, most };
}

/**
 * Resizes a photo whose rows arrive one after the other, so that a large one is never in memory as a whole.
 *
 * size: [height, width] of the photo; resized: of the resized one; filter: one of `filters`. window: the
 * { offset: [top, left], size: [height, width] } of the resized photo that is wanted, all of it by default. Parts
 * beyond the photo are black.
 *
 * `rows` is the range [from, to) of the photo's rows that are needed. Give them to `add(bytes, number, channels)`, in
 * order, in as many pieces as you like; `result()` is then the window, 3 bytes a pixel.
 */
export function resizer([height, width], resized, filter, window = { offset: [0, 0], size: resized }) {
  const { offset, size } = window;
  const from = offset.map((start) => Math.max(0, start)); // the part of the window that lies on the photo
  const to = offset.map((start, axis) => Math.min(resized[axis], start + size[axis]));
  const [high, wide] = to.map((end, axis) => end - from[axis]);
  const down = weightsOf(height, resized[0], from[0], to[0], filter);
  const across = weightsOf(width, resized[1], from[1], to[1], filter);
  // Pillow from version 13 on starts with the columns where that saves most. The rounding in between makes it matter.
  const columnsFirst = height > resized[0] && height - resized[0] > 2 * (width - resized[1]);

  // A row is resized, or cut to what is needed of it, and then added to all the rows of the window that it is part of.
  const cut = columnsFirst ? [across.first[0], across.first[wide - 1] + across.count[wide - 1]] : [0, wide];
  const length = 3 * (cut[1] - cut[0]);
  const sums = new Int32Array(high * length).fill(HALF);
  const row = new Uint8ClampedArray(length);
  let number = down.first[0];
  let top = 0; // the first row of the window that may still need a row of the photo

  function addRow() {
    while (top < high && down.first[top] + down.count[top] <= number) top += 1;
    for (let y = top; y < high && down.first[y] <= number; y++) {
      if (number >= down.first[y] + down.count[y]) continue;
      const weight = down.weights[y * down.most + number - down.first[y]];
      const start = y * length;
      for (let i = 0; i < length; i++) sums[start + i] += weight * row[i];
    }
    number += 1;
  }

  return {
    rows: [number, down.first[high - 1] + down.count[high - 1]],
    add(bytes, more, channels) {
      for (let n = 0; n < more; n++) {
        const start = n * width * channels;
        if (columnsFirst) copy(bytes, start + cut[0] * channels, channels, row);
        else sumAcross(across, bytes, start, channels, row, 0);
        addRow();
      }
    },
    result() {
      const photo = new Uint8ClampedArray(size[0] * size[1] * 3);
      for (let y = 0; y < high; y++) {
        const out = ((from[0] - offset[0] + y) * size[1] + from[1] - offset[1]) * 3;
        for (let i = 0; i < length; i++) row[i] = sums[y * length + i] >> BITS; // the array limits it to 0 to 255
        if (columnsFirst) sumAcross(across, row, -3 * cut[0], 3, photo, out);
        else photo.set(row, out);
      }
      return photo;
    },
  };
}

function copy(bytes, from, channels, row) {
  for (let i = 0; i < row.length; i += 3, from += channels) {
    row[i] = bytes[from];
    row[i + 1] = bytes[from + 1];
    row[i + 2] = bytes[from + 2];
  }
}

/** Resizes a row, whose pixel 0 is at bytes[start], into out, 3 bytes a pixel. */
function sumAcross({ first, count, weights, most }, bytes, start, channels, out, at) {
  for (let x = 0; x < first.length; x++) {
    const end = x * most + count[x];
    let from = start + first[x] * channels;
    let red = HALF;
    let green = HALF;
    let blue = HALF;
    for (let k = x * most; k < end; k++, from += channels) {
      const weight = weights[k];
      red = (red + weight * bytes[from]) | 0; // | 0: whole numbers of 32 bits, which no sum here exceeds
      green = (green + weight * bytes[from + 1]) | 0;
      blue = (blue + weight * bytes[from + 2]) | 0;
    }
    out[at++] = red >> BITS;
    out[at++] = green >> BITS;
    out[at++] = blue >> BITS;
  }
}

/**
 * The resized photo, 3 bytes a pixel, of a photo with 3 bytes (RGB) or 4 (RGBA, whose opacity is ignored) a pixel.
 *
 * size, resized, filter, window: as for `resizer`.
 */
export function resize(bytes, size, resized, filter, window) {
  const all = resizer(size, resized, filter, window);
  const channels = bytes.length / (size[0] * size[1]);
  const row = size[1] * channels;
  all.add(bytes.subarray(all.rows[0] * row, all.rows[1] * row), all.rows[1] - all.rows[0], channels);
  return all.result();
}
