// The verdict on a file, and the numbers that several rules of ../README.md share.

// The file breaks `rule`, an ID of section 8.
export class Refused extends Error {
  constructor(rule, message) {
    super(`${rule}: ${message}`);
    this.rule = rule;
  }
}

// Refuses the file unless the rule holds. `message` may be a function, for texts that take time to make.
export function require(holds, rule, message) {
  if (!holds) throw new Refused(rule, typeof message === "function" ? message() : message);
}

// 4: bytes of an element.
export const DTYPES = new Map(Object.entries({
  F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1,
  I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1, C64: 8, C128: 16,
}));

// 5: the number of rows and the weights of a row. Rule L4 has been checked.
export function rowsAndRow({ shape, pairing }) {
  const elements = product(shape);
  return pairing === "rows" ? [elements / shape.at(-1), shape.at(-1)] : [1, elements];
}

export const product = (sizes) => sizes.reduce((all, size) => all * size, 1);

// 6.1: the number of items in each stream of a layer, and the decoded bytes of an item (for `packed` not used).
export function itemsAndWidth(layer) {
  if (layer.encoding === "exact") return [product(layer.shape), DTYPES.get(layer.dtype)];
  const [rows, row] = rowsAndRow(layer);
  return [rows * Math.ceil(row / 2), 1];
}

// 6.1: whether each byte of the stream is the code of a pair.
export const inBytes = ({ kind, codec }) => kind === "codes" && codec === "zstd";

// 6.2
export const chunkCount = ({ chunk }, items) => Math.ceil(items / chunk);
export const packedLength = (items, bits) => Math.ceil((items * bits) / 8);

// 7.1: scale(c) for c = 0 … K.
export function scales({ side, shells, spacing }) {
  const half = side / 2;
  return Float32Array.from({ length: shells + 1 }, (_, c) => Math.fround(half + Math.fround(c * spacing)) / half);
}
