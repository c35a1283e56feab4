// What the page draws of a decoded layer: the counterpart of bhk/reports/layers.py, of all weights instead of a sample.

const MAX_BINS = 96;
const MAX_GRID = 64;
const WINDOW = 12; // windings and phases drawn around the centre
const MAX_OUTLIERS = 200;
const TAIL = 5e-4; // share of the weights beyond each end of a histogram
const SAMPLE = 2 ** 17; // values that the ends are taken from

// `layer` and `codebook` are entries of a header, `decoded` is what the reader gives for the tensor. Returns what draw() takes.
export function sketchOf(layer, codebook, { dtype, data, codes }) {
  const values = numbers(dtype, data);
  if (values.length === 0) return null;
  const [low, width, bins] = binsOf(values, codebook);
  const pairs = codebook === null ? null : pairsOf(layer, codebook, codes);
  return { sampled: values.length, low, width, decoded: counts(values, low, width, bins), original: null, error: null, pairs };
}

// ------------------------------------------------------------------------------------------------------------ Numbers

const TYPES = {
  F64: Float64Array, F32: Float32Array, I32: Int32Array, I16: Int16Array, I8: Int8Array, U32: Uint32Array, U16: Uint16Array,
  U8: Uint8Array, BOOL: Uint8Array, C64: Float32Array, C128: Float64Array,
};
const WIDE = { I64: BigInt64Array, U64: BigUint64Array };
// Bits of exponent and fraction; whether the largest exponent stands for infinity and NaN.
const SMALL = { F16: [5, 10, true], BF16: [8, 7, true], F8_E5M2: [5, 2, true], F8_E4M3: [4, 3, false] };

// The elements of a tensor as numbers; of complex ones, both parts.
function numbers(dtype, data) {
  const { buffer } = data.byteOffset % 16 || data.byteLength !== data.buffer.byteLength ? data.slice() : data;
  if (TYPES[dtype]) return new TYPES[dtype](buffer);
  if (WIDE[dtype]) return Float64Array.from(new WIDE[dtype](buffer), Number);
  const [exponent, fraction, special] = SMALL[dtype];
  const bits = exponent + fraction > 7 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  const table = Float32Array.from({ length: 2 ** (8 * bits.BYTES_PER_ELEMENT) }, (_, value) => small(value, exponent, fraction, special));
  return Float32Array.from(bits, (value) => table[value]);
}

function small(bits, exponent, fraction, special) {
  const whole = 2 ** fraction, most = 2 ** exponent - 1;
  const e = (bits >> fraction) & most, f = bits % whole, sign = bits >> (exponent + fraction) ? -1 : 1;
  if (special ? e === most : e === most && f === whole - 1) return special && f === 0 ? sign * Infinity : NaN;
  return sign * 2 ** (Math.max(e, 1) - (most >> 1)) * (f / whole + (e > 0));
}

// --------------------------------------------------------------------------------------------------------- Histograms

// The lower edge, width and number of the bins.
function binsOf(values, codebook) {
  const stride = Math.ceil(values.length / SAMPLE);
  const some = Float64Array.from({ length: Math.ceil(values.length / stride) }, (_, i) => values[i * stride]).filter(Number.isFinite).sort();
  const low = quantile(some, TAIL), high = quantile(some, 1 - TAIL);
  if (codebook === null) {
    if (high > low) return [low, (high - low) / MAX_BINS, MAX_BINS];
    const width = Math.abs(low) / MAX_BINS || 1;
    return [low - width / 2, width, 1];
  }
  // A bin is a whole number of lattice steps and centred on the lattice, so that each holds equally many lattice points.
  const { windings: n, lattice, centre } = codebook, step = codebook.side / n;
  const width = step * (Math.ceil((high - low) / step / (MAX_BINS - 2)) || 1);
  const origin = { centred: (n - 1) / 2, corner: n / 2, grid: Math.floor(n / 2) }[lattice];
  const base = centre[1] - (origin + 0.5) * step;
  const edge = base + width * Math.floor((low - base) / width);
  return [edge, width, Math.max(Math.ceil((high - edge) / width), 1)];
}

function quantile(sorted, share) {
  if (sorted.length === 0) return 0;
  const at = share * (sorted.length - 1), below = Math.floor(at);
  return sorted[below] + (at - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

// The first and the last bin include all finite values beyond them.
function counts(values, low, width, bins) {
  const found = new Uint32Array(bins);
  for (const value of values) {
    if (Number.isFinite(value)) found[Math.min(Math.max(Math.floor((value - low) / width), 0), bins - 1)] += 1;
  }
  return found;
}

// -------------------------------------------------------------------------------------------------------------- Pairs

function pairsOf(layer, codebook, { k, c }) {
  const { windings: n, lattice } = codebook;
  const grid = Math.min(n, MAX_GRID), size = Math.min(n, WINDOW), first = Math.max((n - WINDOW) >> 1, 0);
  const density = new Uint32Array(grid * grid), window = new Uint32Array(size * size), outliers = [];
  const scale = scalesOf(codebook), row = layer.pairing === "rows" ? layer.shape.at(-1) : layer.shape.reduce((a, b) => a * b, 1);
  const pairs = Math.ceil(row / 2);
  let outside = 0;
  for (let i = 0; i < k.length; i += 1) {
    if (row % 2 === 1 && i % pairs === pairs - 1) continue; // half of it is padding
    const q = Math.floor(k[i] / n), r = k[i] % n;
    if (c !== null && c[i] > 0) {
      outside += 1;
      if (outliers.length < 2 * MAX_OUTLIERS) outliers.push(...placeOf(q, r, n, lattice).map((place) => place * scale[c[i]]));
      continue;
    }
    density[Math.floor((q * grid) / n) * grid + Math.floor((r * grid) / n)] += 1;
    const dq = q - first, dr = r - first;
    if (dq >= 0 && dq < size && dr >= 0 && dr < size) window[dq * size + dr] += 1;
  }
  const most = density.reduce((a, b) => Math.max(a, b), 1);
  return {
    grid, density: Uint8Array.from(density, (value) => Math.round((255 * Math.log1p(value)) / Math.log1p(most))),
    size, window, corner: [first, first], scales: [1, 1], links: null, outliers: Float32Array.from(outliers), outside,
  };
}

// A step in sides of the square, from its centre.
function placeOf(q, r, n, lattice) {
  if (lattice === "grid") return [(q - Math.floor(n / 2)) / n, (r - Math.floor(n / 2)) / n];
  const half = lattice === "centred" ? 0.5 : 0;
  return [(q * n + r + half) / (n * n) - 0.5, (r + half) / n - 0.5];
}

export const scalesOf = ({ side, shells, spacing }) => Array.from({ length: shells + 1 }, (_, c) => 1 + (2 * c * spacing) / side);
