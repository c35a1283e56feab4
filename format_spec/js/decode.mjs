// Sections 6 and 7 of ../README.md: from the stored bytes of streams to the bytes of a tensor. Rules D3 and D4.
//
// Math.fround rounds to float32. The sum, difference, product or quotient of two float32 values, computed as a double and then
// rounded to float32, is the same as rounded once. Typed arrays are little-endian wherever browsers and Node run.

import { Refused, chunkCount, itemsAndWidth, packedLength, require, rowsAndRow, scales } from "./rules.mjs";
import { ZstdError, decompress } from "./zstd.mjs";

const round = Math.fround;

// --------------------------------------------------------------------------------------------- 6.2 Chunks, 6.3 Codecs

// Decodes a stream chunk by chunk: to codes (Uint32Array) if packed, else to bytes.
export function decodeStream(data, stream, items, width) {
  const { codec, chunk, bits } = stream;
  if (codec === "none") return data;
  const lengths = stream.chunks.length ? stream.chunks : [stream.stored]; // for codecs with zstd
  const result = codec === "packed" ? new Uint32Array(items) : new Uint8Array(items * width);
  for (let i = 0, start = 0; i < chunkCount(stream, items); i += 1) {
    const first = i * chunk, count = Math.min(chunk, items - first);
    const stored = codec === "packed" ? packedLength(count, bits) : lengths[i];
    const piece = data.subarray(start, start + stored);
    start += stored;
    if (codec === "packed") unpack(piece, bits, result.subarray(first, first + count));
    else if (codec === "zstd") result.set(unzstd(piece, count * width), first * width);
    else unshuffle(unzstd(piece, count * width), width, result.subarray(first * width, (first + count) * width));
  }
  return result;
}

function unzstd(frame, length) {
  try {
    return decompress(frame, length);
  } catch (error) {
    throw error instanceof ZstdError ? new Refused("D3", error.message) : error;
  }
}

function unshuffle(content, width, result) {
  const count = content.length / width;
  for (let b = 0; b < width; b += 1) for (let i = 0; i < count; i += 1) result[i * width + b] = content[b * count + i];
}

function unpack(data, bits, result) {
  const spare = 8 * data.length - result.length * bits;
  require(spare === 0 || data.at(-1) >> (8 - spare) === 0, "D3", "a bit is set behind the last code of a chunk");
  const mask = 2 ** bits - 1;
  for (let i = 0, bit = 0; i < result.length; i += 1, bit += bits) {
    const at = bit >> 3;
    result[i] = ((data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24)) >>> (bit & 7)) & mask;
  }
}

// ------------------------------------------------------------------------------------------------------- 6.4 Codes

function below(values, limit, what) {
  let largest = 0;
  for (const value of values) if (value > largest) largest = value;
  require(largest < limit, "D4", `a ${what} is out of range`);
}

// k (Uint16Array) and c (Uint8Array; null without shells) of each pair, from the decoded streams by kind.
export function stepsAndShells(streams, window, { windings: n, shells }) {
  const first = streams.codes ?? streams.winding;
  const k = new Uint16Array(first.length);
  let c = streams.shell ?? null;
  if (window !== null) {
    const [q0, r0, phases] = window;
    below(first, (n - q0) * phases, "byte");
    for (let i = 0; i < k.length; i += 1) k[i] = (q0 + Math.floor(first[i] / phases)) * n + r0 + (first[i] % phases);
  } else if (streams.codes) {
    below(first, (shells + 1) * n * n, "code");
    for (let i = 0; i < k.length; i += 1) k[i] = first[i] % (n * n);
    if (shells) c = Uint8Array.from(first, (code) => Math.floor(code / (n * n)));
  } else {
    below(first, n, "winding");
    below(streams.phase, n, "phase");
    for (let i = 0; i < k.length; i += 1) k[i] = first[i] * n + streams.phase[i];
  }
  if (c !== null) below(c, shells + 1, "shell");
  return { k, c };
}

// ------------------------------------------------------------------------------------------------------ 7 Decoding

// 7.1 and 7.2: x and y of the steps k = 0 … n² − 1.
export function points({ side, windings: n, lattice }) {
  const x = new Float32Array(n * n), y = new Float32Array(n * n);
  const pitchX = round(side / (n * n));
  const pitchY = lattice === "corner" ? round(n * pitchX) : round(side / n);
  const half = Math.floor(n / 2);
  for (let k = 0; k < n * n; k += 1) {
    const q = Math.floor(k / n), r = k % n;
    if (lattice === "centred") {
      x[k] = (k - (n * n - 1) / 2) * pitchX;
      y[k] = (r - (n - 1) / 2) * pitchY;
    } else if (lattice === "grid") {
      x[k] = (q - half) * pitchY;
      y[k] = (r - half) * pitchY;
    } else {
      x[k] = (k - (n * n) / 2) * pitchX;
      y[k] = round(round(k * pitchY) - q * side) - side / 2;
    }
  }
  return { x, y };
}

// 7.3: both weights of each pair, one after the other. A pair without shells is in shell 0, whose scale is 1.
function pairsOf({ k, c }, codebook) {
  const { x, y } = points(codebook), scale = scales(codebook), [cx, cy] = codebook.centre;
  const result = new Float32Array(2 * k.length);
  for (let i = 0; i < k.length; i += 1) {
    const factor = c === null ? 1 : scale[c[i]];
    result[2 * i] = round(x[k[i]] * factor) + cx;
    result[2 * i + 1] = round(y[k[i]] * factor) + cy;
  }
  return result;
}

// 5: the weights of the tensor, without padding.
function withoutPadding(pairs, layer) {
  const [rows, row] = rowsAndRow(layer);
  if (row % 2 === 0) return pairs;
  const result = new Float32Array(rows * row);
  for (let i = 0; i < rows; i += 1) result.set(pairs.subarray(i * (row + 1), i * (row + 1) + row), i * row);
  return result;
}

// 7.4: float32 values in the data type of a trajectory layer.
function rounded(values, dtype) {
  if (dtype === "F32") return values;
  if (dtype === "F64") return new Float64Array(values);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const convert = dtype === "BF16" ? bfloat16 : float16;
  const result = new Uint16Array(values.length);
  for (let i = 0; i < result.length; i += 1) result[i] = convert(bits[i], values[i]);
  return result;
}

const bfloat16 = (bits) => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;

function float16(bits, value) {
  const sign = (bits >>> 16) & 0x8000, size = bits & 0x7fffffff;
  if (size >= 0x47800000) return sign | 0x7c00; // 65,536 and more
  if (size >= 0x38800000) return sign | ((size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13); // 2^-14 and more: normal
  const steps = Math.abs(value) * 2 ** 24, whole = Math.floor(steps), rest = steps - whole;
  return sign | (whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)));
}

// The tensor of a layer, from its decoded streams by kind: its bytes as in section 4, and the codes of its pairs (null if exact).
export function decodeLayer(layer, codebook, streams) {
  if (layer.encoding === "exact") {
    const data = streams.values ?? new Uint8Array(0);
    return { data: layer.dtype === "BOOL" ? data.map((value) => value !== 0) : data, codes: null };
  }
  const codes = stepsAndShells(streams, layer.streams[0].window, codebook);
  const values = rounded(withoutPadding(pairsOf(codes, codebook), layer), layer.dtype);
  return { data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength), codes };
}

// Bytes of memory that decoding a layer may take, at most: streams, codes and weights.
export function memoryFor(layer) {
  const [items, width] = itemsAndWidth(layer);
  return layer.encoding === "exact" ? 2 * items * width : 26 * items;
}
