// From feature maps to class activation maps. The features (C, h, w) lie channel after channel, as in PyTorch.

/** Numbers stored in half precision (Uint16Array) as a Float32Array. Every one of them is kept exactly. */
export function fromHalf(halves) {
  const table = new Float32Array(2 ** 16); // each of the possible values is decoded once
  for (let bits = 0; bits < table.length; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else table[bits] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  }
  return Float32Array.from(halves, (bits) => table[bits]);
}

/** The weights of a classifier.bin (ArrayBuffer): `rows[k]` are class k's, one for each channel. */
export function classifierRows(buffer, channels) {
  const view = new DataView(buffer);
  const halves = Uint16Array.from({ length: buffer.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
  const all = fromHalf(halves);
  return Array.from({ length: all.length / channels }, (_, k) => all.subarray(k * channels, (k + 1) * channels));
}

/** The map of a class: at each cell, the sum over the channels of weight × feature. weights (C) -> (h·w). */
export function classMap(weights, features, [h, w]) {
  const cells = h * w;
  const sums = new Float64Array(cells);
  weights.forEach((weight, channel) => {
    const from = channel * cells;
    for (let cell = 0; cell < cells; cell++) sums[cell] += weight * features[from + cell];
  });
  return Float32Array.from(sums);
}

export function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/** The identity in numbers: mean(map) + bias is the logit. `error` is how far it is off. */
export function identity(map, bias, logit) {
  const average = mean(map);
  return { mean: average, bias, logit, error: Math.abs(average + bias - logit) };
}

/**
 * What each channel adds to a class's logit, largest first: { channel, weight, mean, value }, value = weight × mean.
 *
 * The values sum to the mean of the class's map, which is the logit without its bias.
 */
export function contributions(weights, features, [h, w]) {
  const cells = h * w;
  const all = Array.from(weights, (weight, channel) => {
    const average = mean(features.subarray(channel * cells, (channel + 1) * cells));
    return { channel, weight, mean: average, value: weight * average };
  });
  return all.sort((a, b) => b.value - a.value);
}
