// One Zstandard frame (RFC 8878) of known content size, without a dictionary. Nothing is read or written outside the frame and its
// content: sizes are checked before bytes move, so a frame of n bytes never takes longer than its content allows.

export class ZstdError extends Error {}

function require(holds, message) {
  if (!holds) throw new ZstdError(`zstd: ${message}`);
}

const BLOCK_LIMIT = 1 << 17; // content of a compressed block
const SPARE = 8; // zero bytes behind the frame, so that four bytes can be read at any place of it

// ------------------------------------------------------------------------------------------------- 3.1.1.1 Frame header

// Returns where the blocks start, the content size (null if not declared), the largest block, and whether there is a checksum.
function frameHeader(frame) {
  require(frame.length > 5 && frame[0] === 0x28 && frame[1] === 0xb5 && frame[2] === 0x2f && frame[3] === 0xfd, "not a frame");
  const descriptor = frame[4];
  require(!(descriptor & 8), "a reserved bit is set");
  const single = (descriptor >> 5) & 1;
  const windowSize = (1 + (frame[5] & 7) / 8) * 2 ** (10 + (frame[5] >> 3));
  const dictionaryAt = 6 - single;
  const sizeAt = dictionaryAt + [0, 1, 2, 4][descriptor & 3];
  const sizeBytes = [single, 2, 4, 8][descriptor >> 6];
  const start = sizeAt + sizeBytes;
  require(frame.length >= start, "the frame is cut off");
  require(littleEndian(frame, dictionaryAt, sizeAt) === 0, "the frame needs a dictionary");
  const size = sizeBytes ? littleEndian(frame, sizeAt, start) + (sizeBytes === 2 ? 256 : 0) : null;
  return { start, size, largest: Math.min(single ? size : windowSize, BLOCK_LIMIT), checksum: (descriptor >> 2) & 1 };
}

function littleEndian(bytes, start, end) {
  let value = 0;
  for (let i = end - 1; i >= start; i -= 1) value = value * 256 + bytes[i];
  return value;
}

// The content size that a frame declares, or null.
export function contentSize(frame) {
  return frameHeader(frame).size;
}

// ---------------------------------------------------------------------------------------------------- 3.1.1.2 Blocks

// Decompresses a frame that declares `length` bytes of content and is all of `frame`.
export function decompress(frame, length) {
  const { start, size, largest, checksum } = frameHeader(frame);
  require(size === length, `the frame declares ${size} bytes of content, not ${length}`);
  const end = frame.length - 4 * checksum;
  const bytes = new Uint8Array(frame.length + SPARE);
  bytes.set(frame);
  const state = { bytes, out: new Uint8Array(length), filled: 0, largest, recent: [1, 4, 8], huffman: null, tables: [null, null, null],
    literals: new Uint8Array(BLOCK_LIMIT) };
  let at = start, last = 0;
  while (!last) {
    require(at + 3 <= end, "the frame is cut off");
    const head = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
    const type = (head >> 1) & 3, blockSize = head >> 3;
    last = head & 1;
    at += 3;
    const stop = at + (type === 1 ? 1 : blockSize);
    require(type < 3, "reserved block type");
    require(stop <= end, "the frame is cut off");
    if (type === 2) {
      compressedBlock(state, at, stop);
    } else {
      require(state.filled + blockSize <= length, "more content than declared");
      if (type === 1) state.out.fill(bytes[at], state.filled, state.filled + blockSize);
      else state.out.set(bytes.subarray(at, stop), state.filled);
      state.filled += blockSize;
    }
    at = stop;
  }
  require(at === end, "bytes behind the last block");
  require(state.filled === length, "less content than declared");
  if (checksum) require(littleEndian(frame, end, end + 4) === Number(xxh64(state.out) & 0xffffffffn), "wrong checksum");
  return state.out;
}

function compressedBlock(state, start, stop) {
  require(stop - start <= state.largest, "a block is too large");
  const [sequencesAt, literalCount] = readLiterals(state, start, stop);
  runSequences(state, sequencesAt, stop, literalCount);
}

// ------------------------------------------------------------------------------------------- 3.1.1.3.1 Literals section

// Fills state.literals. Returns where the section ends and the number of literals.
function readLiterals(state, start, stop) {
  const { bytes, literals } = state;
  require(start < stop, "a block is cut off");
  const type = bytes[start] & 3, format = (bytes[start] >> 2) & 3;
  const headBytes = type < 2 ? [1, 2, 1, 3][format] : [3, 3, 4, 5][format];
  const at = start + headBytes;
  require(at <= stop, "a block is cut off");
  const head = littleEndian(bytes, start, at);
  if (type < 2) {
    const count = Math.floor(head / (format & 1 ? 16 : 8));
    const end = at + (type ? 1 : count);
    require(count <= state.largest && end <= stop, "too many literals");
    if (type) literals.fill(bytes[at], 0, count);
    else literals.set(bytes.subarray(at, end));
    return [end, count];
  }
  const range = 2 ** [10, 10, 14, 18][format];
  const count = Math.floor(head / 16) % range, stored = Math.floor(head / 16 / range);
  const end = at + stored;
  require(count <= state.largest && end <= stop, "too many literals");
  let codesAt = at;
  if (type === 2) [codesAt, state.huffman] = readHuffman(bytes, at, end);
  require(state.huffman !== null, "no Huffman table");
  if (format === 0) decodeHuffman(state, codesAt, end, 0, count);
  else decodeFourStreams(state, codesAt, end, count);
  return [end, count];
}

function decodeFourStreams(state, at, end, count) {
  const quarter = (count + 3) >> 2;
  require(at + 6 <= end && 3 * quarter <= count, "literals are cut off");
  let from = at + 6;
  for (let i = 0; i < 4; i += 1) {
    const to = i < 3 ? from + state.bytes[at + 2 * i] + 256 * state.bytes[at + 2 * i + 1] : end;
    require(from < to && to <= end, "literals are cut off");
    decodeHuffman(state, from, to, i * quarter, i < 3 ? (i + 1) * quarter : count);
    from = to;
  }
}

// Bits are read from the end of a stream to its start, highest first. Returns their number: those below the mark in the last byte.
function backwards(bytes, start, end) {
  require(start < end && bytes[end - 1] > 0, "a stream of bits has no end mark");
  return 8 * (end - start) - 1 - (Math.clz32(bytes[end - 1]) - 24);
}

// Four bytes from a bit on: at least 25 bits. Bits before a stream belong to what precedes it in the frame; callers refuse them.
function window(bytes, bit) {
  const i = bit >> 3;
  return (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24)) >>> (bit & 7);
}

function decodeHuffman({ bytes, literals, huffman }, start, end, first, stop) {
  const { symbols, lengths, most } = huffman;
  const base = 8 * start, mask = (1 << most) - 1;
  let left = base + backwards(bytes, start, end);
  for (let i = first; i < stop; i += 1) {
    const at = window(bytes, left - most) & mask;
    literals[i] = symbols[at];
    left -= lengths[at];
    require(left >= base, "literals are cut off");
  }
  require(left === base, "bits behind the last literal");
}

// ------------------------------------------------------------------------------------------- 4.2.1 Huffman trees

// Returns where the description of the tree ends, and the table.
function readHuffman(bytes, start, end) {
  require(start < end, "a Huffman tree is cut off");
  const head = bytes[start], direct = head > 127;
  const stop = start + 1 + (direct ? (head - 126) >> 1 : head);
  require(stop <= end, "a Huffman tree is cut off");
  const weights = new Uint8Array(256);
  let count = head - 127;
  if (direct) for (let i = 0; i < count; i += 1) weights[i] = (bytes[start + 1 + (i >> 1)] >> (i & 1 ? 0 : 4)) & 15;
  else count = compressedWeights(bytes, start + 1, stop, weights);
  let sum = 0;
  for (let i = 0; i < count; i += 1) {
    require(weights[i] <= 11, "a Huffman code is too long");
    sum += weights[i] && 1 << (weights[i] - 1);
  }
  const most = 32 - Math.clz32(sum), rest = (1 << most) - sum;
  require(sum > 0 && most <= 11 && (rest & (rest - 1)) === 0, "a Huffman tree is not complete");
  weights[count] = 32 - Math.clz32(rest);
  const symbols = new Uint8Array(1 << most), lengths = new Uint8Array(1 << most);
  let at = 0;
  for (let weight = 1; weight <= most; weight += 1) {
    for (let symbol = 0; symbol <= count; symbol += 1) {
      if (weights[symbol] !== weight) continue;
      const next = at + (1 << (weight - 1));
      symbols.fill(symbol, at, next);
      lengths.fill(most + 1 - weight, at, next);
      at = next;
    }
  }
  return [stop, { symbols, lengths, most }];
}

// Two states in turn give a weight each, until the bits run out. Returns the number of weights.
function compressedWeights(bytes, start, end, weights) {
  const [at, table] = readTable(bytes, start, end, 6, 11);
  const base = 8 * at;
  let left = base + backwards(bytes, at, end), count = 0;
  const take = (bits) => {
    left -= bits;
    return window(bytes, left) & ((1 << bits) - 1);
  };
  const states = [take(table.log), take(table.log)];
  require(left >= base, "Huffman weights are cut off");
  for (let turn = 0; left >= base; turn ^= 1) {
    require(count < 254, "too many Huffman weights");
    weights[count++] = table.symbols[states[turn]];
    states[turn] = table.bases[states[turn]] + take(table.lengths[states[turn]]);
    if (left < base) weights[count++] = table.symbols[states[turn ^ 1]];
  }
  return count;
}

// ------------------------------------------------------------------------------------------- 4.1 Finite state entropy

// Returns where the description of a table ends, and the table.
function readTable(bytes, start, end, mostLog, mostSymbol) {
  require(start < end, "a table is cut off");
  const log = (bytes[start] & 15) + 5;
  require(log <= mostLog, "a table is too large");
  const shares = [];
  let bit = 8 * start + 4, left = 1 << log;
  while (left > 0) {
    require(bit < 8 * end && shares.length <= mostSymbol, "a table is not well formed");
    const bits = 32 - Math.clz32(left + 1), low = (1 << (bits - 1)) - 1, spare = (1 << bits) - 2 - left;
    let value = window(bytes, bit) & ((1 << bits) - 1);
    bit += bits;
    if ((value & low) < spare) { value &= low; bit -= 1; } else if (value > low) value -= spare;
    shares.push(value - 1);
    left -= Math.abs(value - 1);
    for (let repeat = value === 1 ? 3 : 0; repeat === 3; bit += 2) {
      repeat = window(bytes, bit) & 3;
      for (let i = 0; i < repeat; i += 1) shares.push(0);
      require(shares.length <= mostSymbol + 1, "a table is not well formed");
    }
  }
  const stop = (bit + 7) >> 3;
  require(left === 0 && stop <= end, "a table is not well formed");
  return [stop, makeTable(shares, log)];
}

// shares: of each symbol, in states; −1 for less than one.
function makeTable(shares, log) {
  const size = 1 << log, symbols = new Uint8Array(size), lengths = new Uint8Array(size), bases = new Uint16Array(size);
  const next = shares.map(Math.abs);
  let high = size;
  shares.forEach((share, symbol) => { if (share < 0) symbols[high -= 1] = symbol; });
  let at = 0;
  for (const [symbol, share] of shares.entries()) {
    for (let i = 0; i < share; i += 1) {
      symbols[at] = symbol;
      do at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1); while (at >= high);
    }
  }
  for (let i = 0; i < size; i += 1) {
    const state = next[symbols[i]]++;
    lengths[i] = log - (31 - Math.clz32(state));
    bases[i] = (state << lengths[i]) - size;
  }
  return { symbols, lengths, bases, log };
}

const only = (symbol) => ({ symbols: [symbol], lengths: [0], bases: [0], log: 0 });

// ------------------------------------------------------------------------------------------- 3.1.1.3.2 Sequences section

// Codes of literal lengths and of match lengths: extra bits of each; the values follow one after the other.
const runs = (text) => text.split(" ").flatMap((part) => {
  const [value, times = 1] = part.split("*").map(Number);
  return Array(times).fill(value);
});
function baselines(bits, first) {
  let next = first;
  return bits.map((extra) => (next += 2 ** extra) - 2 ** extra);
}
const LITERAL_BITS = runs("0*16 1*4 2*2 3*2 4 6 7 8 9 10 11 12 13 14 15 16");
const MATCH_BITS = runs("0*32 1*4 2*2 3*2 4*2 5 7 8 9 10 11 12 13 14 15 16");
const LITERAL_BASES = baselines(LITERAL_BITS, 0);
const MATCH_BASES = baselines(MATCH_BITS, 3);
// Literal lengths, offsets, match lengths: the largest log and symbol, and the table of 3.1.1.3.2.2. 2^26 bytes need no more offsets.
const KINDS = [
  { log: 9, most: 35, table: makeTable(runs("4 3 2*11 1*3 2*9 3 2 1*5 -1*4"), 6) },
  { log: 8, most: 31, table: makeTable(runs("1*6 2*3 1*15 -1*5"), 5) },
  { log: 9, most: 52, table: makeTable(runs("1 4 3 2*6 1*37 -1*7"), 6) },
];
const MOST_OFFSET_BITS = 26;

function readTables(state, at, stop) {
  const { bytes } = state;
  require(at < stop && !(bytes[at] & 3), "modes of sequences");
  let place = at + 1;
  for (const [i, { log, most, table }] of KINDS.entries()) {
    const mode = (bytes[at] >> (6 - 2 * i)) & 3;
    if (mode === 0) {
      state.tables[i] = table;
    } else if (mode === 1) {
      require(place < stop && bytes[place] <= most, "an unknown code");
      state.tables[i] = only(bytes[place]);
      place += 1;
    } else if (mode === 2) {
      [place, state.tables[i]] = readTable(bytes, place, stop, log, most);
    }
    require(state.tables[i] !== null, "no table to repeat");
  }
  return place;
}

function runSequences(state, at, stop, literalCount) {
  const { bytes, literals, out } = state;
  const limit = Math.min(out.length, state.filled + state.largest);
  require(at < stop, "a block is cut off");
  const head = bytes[at];
  const headBytes = head < 128 ? 1 : head < 255 ? 2 : 3;
  require(at + headBytes <= stop, "a block is cut off");
  const sequences = [head, ((head - 128) << 8) + bytes[at + 1], bytes[at + 1] + (bytes[at + 2] << 8) + 0x7f00][headBytes - 1];
  let taken = 0;
  if (sequences === 0) require(at + headBytes === stop, "bytes behind the last literal");
  else taken = decodeSequences(state, readTables(state, at + headBytes, stop), stop, sequences, literalCount, limit);
  require(state.filled + literalCount - taken <= limit, "more content than declared");
  out.set(literals.subarray(taken, literalCount), state.filled);
  state.filled += literalCount - taken;
}

// Returns the number of literals taken.
function decodeSequences(state, start, stop, sequences, literalCount, limit) {
  const { bytes, literals, out, recent, tables: [literal, offsets, match] } = state;
  const base = 8 * start;
  let left = base + backwards(bytes, start, stop), taken = 0, filled = state.filled;
  const take = (bits) => {
    left -= bits;
    return window(bytes, left) & ((1 << bits) - 1);
  };
  let literalState = take(literal.log), offsetState = take(offsets.log), matchState = take(match.log);
  for (let i = 1; i <= sequences; i += 1) {
    const offsetBits = offsets.symbols[offsetState], matchCode = match.symbols[matchState], literalCode = literal.symbols[literalState];
    require(left >= base && offsetBits <= MOST_OFFSET_BITS, "sequences are cut off");
    const high = offsetBits > 16 ? take(offsetBits - 16) * 65536 : 0;
    const value = 2 ** offsetBits + high + take(Math.min(offsetBits, 16));
    const length = MATCH_BASES[matchCode] + take(MATCH_BITS[matchCode]);
    const fresh = LITERAL_BASES[literalCode] + take(LITERAL_BITS[literalCode]);
    if (i < sequences) {
      literalState = literal.bases[literalState] + take(literal.lengths[literalState]);
      matchState = match.bases[matchState] + take(match.lengths[matchState]);
      offsetState = offsets.bases[offsetState] + take(offsets.lengths[offsetState]);
    }
    const offset = offsetOf(value, fresh, recent);
    require(left >= base && taken + fresh <= literalCount && filled + fresh + length <= limit, "a sequence is too long");
    for (let j = 0; j < fresh; j += 1) out[filled + j] = literals[taken + j];
    taken += fresh;
    filled += fresh;
    require(offset > 0 && offset <= filled, "an offset reaches before the content");
    for (let j = filled; j < filled + length; j += 1) out[j] = out[j - offset];
    filled += length;
  }
  require(left === base, "bits behind the last sequence");
  state.filled = filled;
  return taken;
}

// 3.1.1.5: values up to 3 stand for one of the three recent offsets.
function offsetOf(value, fresh, recent) {
  const which = value > 3 ? 3 : value - 1 + (fresh === 0);
  const offset = value > 3 ? value - 3 : which === 3 ? recent[0] - 1 : recent[which];
  for (let i = Math.min(which, 2); i > 0; i -= 1) recent[i] = recent[i - 1];
  recent[0] = offset;
  return offset;
}

// ------------------------------------------------------------------------------------------- 3.1.1 Content checksum

const PRIMES = [0x9e3779b185ebca87n, 0xc2b2ae3d27d4eb4fn, 0x165667b19e3779f9n, 0x85ebca77c2b2ae63n, 0x27d4eb2f165667c5n];
const wrap = (value) => BigInt.asUintN(64, value);
const rotate = (value, by) => wrap((value << by) | (value >> (64n - by)));

// XXH64 with seed 0.
export function xxh64(bytes) {
  const [P1, P2, P3, P4, P5] = PRIMES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const round = (sum, lane) => wrap(rotate(wrap(sum + lane * P2), 31n) * P1);
  let hash = P5, at = 0;
  if (bytes.length >= 32) {
    const sums = [wrap(P1 + P2), P2, 0n, wrap(-P1)];
    for (; at + 32 <= bytes.length; at += 32) {
      for (let i = 0; i < 4; i += 1) sums[i] = round(sums[i], view.getBigUint64(at + 8 * i, true));
    }
    hash = wrap(rotate(sums[0], 1n) + rotate(sums[1], 7n) + rotate(sums[2], 12n) + rotate(sums[3], 18n));
    for (const sum of sums) hash = wrap((hash ^ round(0n, sum)) * P1 + P4);
  }
  hash = wrap(hash + BigInt(bytes.length));
  for (; at + 8 <= bytes.length; at += 8) hash = wrap(rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * P1 + P4);
  if (at + 4 <= bytes.length) {
    hash = wrap(rotate(hash ^ wrap(BigInt(view.getUint32(at, true)) * P1), 23n) * P2 + P3);
    at += 4;
  }
  for (; at < bytes.length; at += 1) hash = wrap(rotate(hash ^ wrap(BigInt(bytes[at]) * P5), 11n) * P1);
  hash = wrap((hash ^ (hash >> 33n)) * P2);
  hash = wrap((hash ^ (hash >> 29n)) * P3);
  return hash ^ (hash >> 32n);
}
