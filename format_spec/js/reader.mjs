// Reads and validates `.bhk` files in browsers and in Node: ../README.md, section by section, without dependencies.
//
//     const file = await open("https://example.org/model.bhk");   // or a File, a Blob, an ArrayBuffer, a Uint8Array
//     file.header                  // the header as in section 3.2, defaults and offsets filled in, extension keys left out
//     file.names                   // all names, aliases too, in the order of the layer map
//     file.layer("w")              // its entry in the layer map
//     await file.tensor("w")       // { dtype, shape, data, codes }: D1 to D4 are checked for this tensor
//     await validate("model.bhk")  // every rule
//
// `data` are the bytes of the tensor as section 4 has them, BOOL as 0 and 1; `codes` is null for an exact tensor, else k and c of
// each pair as in section 6.4. Of an address, only the parts of the file that are asked for are fetched, from that address alone.
// A file that breaks a rule throws `Refused`, whose `rule` is the one of section 8 that the order of section 9 finds first.
// Other errors (the network, a limit of this reader) are no verdict on the file.

import { decodeLayer, decodeStream, memoryFor } from "./decode.mjs";
import { PREAMBLE, checkHeader, checkPreamble, headerText, readHeader } from "./header.mjs";
import { Refused, itemsAndWidth, require } from "./rules.mjs";

export { Refused };

const MEMORY_LIMIT = 2 ** 31; // this reader's own: bytes that decoding one tensor may take (section 13, item 3)
const FIRST_REQUEST = 2 ** 16; // mostly holds the whole header

// ------------------------------------------------------------------------------------------------------- Sources

// A source has a `length` and reads bytes that are known to lie within it.
async function sourceOf(input) {
  if (typeof input === "string" || input instanceof URL) return remote(String(input));
  if (input instanceof Blob) {
    const read = async (offset, length) => new Uint8Array(await input.slice(offset, offset + length).arrayBuffer());
    return { length: input.size, read };
  }
  const bytes = input instanceof ArrayBuffer ? new Uint8Array(input) : input;
  return { length: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) };
}

async function remote(address) {
  const { bytes: first, total } = await request(address, 0, FIRST_REQUEST);
  const whole = total ?? (first.length < FIRST_REQUEST ? first.length : await declaredLength(address, first));
  const read = async (offset, length) => {
    if (length === 0 || offset + length <= first.length) return first.subarray(offset, offset + length);
    const { bytes, total: now } = await request(address, offset, length);
    if (now !== total) throw new Error(`the file changed while it was read: ${total} bytes, now ${now}`);
    return bytes;
  };
  return { length: whole, read };
}

// Servers may hide the length of a file from pages of other sites. If it is the declared one, one byte comes where two are asked for.
async function declaredLength(address, first) {
  const declared = Number(new DataView(first.buffer).getBigUint64(24, true));
  const { bytes } = await request(address, Math.max(declared - 1, 0), 2);
  if (bytes.length !== 1) throw new Error("the server does not tell how long the file is, and it is not a .bhk file of the length it states");
  return declared;
}

// Returns a part of a remote file (fewer bytes at its end) and the length of the whole; null if the server does not tell.
async function request(address, offset, length) {
  const response = await fetch(address, {
    headers: { Range: `bytes=${offset}-${offset + length - 1}` }, credentials: "omit", referrerPolicy: "no-referrer",
  });
  const told = response.headers.get("Content-Range");
  if (response.status === 416 && /^bytes \*\/0$/.test(told ?? "")) return { bytes: new Uint8Array(0), total: 0 };
  if (!response.ok) throw new Error(`the server answered ${response.status} ${response.statusText}`);
  const range = told === null ? [null, offset] : /^bytes ([0-9]+)-[0-9]+\/([0-9]+)$/.exec(told);
  if (response.status !== 206 || range === null || Number(range[1]) !== offset) {
    await response.body?.cancel();
    throw new Error("the server does not send parts of files (range requests)");
  }
  return { bytes: await bounded(response, length), total: told === null ? null : Number(range[2]) };
}

// The body of a response, of which no more than `length` bytes are kept.
async function bounded(response, length) {
  const bytes = new Uint8Array(length);
  let filled = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return bytes.subarray(0, filled);
    if (filled + value.length > length) {
      await reader.cancel();
      throw new Error("the server sent more than was asked for");
    }
    bytes.set(value, filled);
    filled += value.length;
  }
}

// Bytes of the file. They were all there when its length was taken, so fewer are an error of the system (13, item 11).
async function readExactly(source, offset, length) {
  const bytes = await source.read(offset, length);
  if (bytes.length !== length) throw new Error(`the file became shorter while it was read: ${length} bytes expected at ${offset}`);
  return bytes;
}

async function sha256(bytes) {
  if (globalThis.crypto?.subtle === undefined) throw new Error("this page cannot check hashes: open it over https or from a folder");
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

export const hexadecimal = (bytes) => Array.from(bytes, (value) => value.toString(16).padStart(2, "0")).join("");

// ------------------------------------------------------------------------------------------------------- 10 Readers

class BhkFile {
  #source;
  #streams;
  #ends;
  #layers = new Map();

  constructor(source, first, header) {
    this.#source = source;
    this.header = header;
    this.#streams = header.layers.flatMap(({ streams }) => streams);
    const ends = [first, ...this.#streams.map(({ offset, stored }) => offset + stored)];
    this.#ends = new Map(this.#streams.map(({ offset }, i) => [offset, ends[i]])); // where the one before each stream ends
    for (const layer of header.layers) for (const name of [layer.name, ...layer.aliases]) this.#layers.set(name, layer);
  }

  get length() { return this.#source.length; }

  get names() { return [...this.#layers.keys()]; }

  layer(name) {
    const layer = this.#layers.get(name);
    if (layer === undefined) throw new RangeError(`the file has no tensor ${JSON.stringify(name)}`);
    return layer;
  }

  // Bytes of the file, which must lie within it.
  read(offset, length) { return readExactly(this.#source, offset, length); }

  codebook(layer) { return layer.codebook === null ? null : this.header.codebooks[layer.codebook]; }

  // Step 8: rule D1.
  async checkPadding() {
    for (const stream of this.#streams) await this.#readBehindGap(stream, 0);
  }

  // The first bytes of a stream, after rule D1 for those in front of it: one request.
  async #readBehindGap({ offset }, length) {
    const end = this.#ends.get(offset), gap = offset - end;
    const bytes = await this.read(end, gap + length);
    require(bytes.subarray(0, gap).every((value) => value === 0), "D1", `bytes before offset ${offset} are not zero`);
    return bytes.subarray(gap);
  }

  // Steps 8 and 9 for one layer: rules D1 and D2, then D3 and D4.
  async tensor(name) {
    const layer = this.layer(name);
    const memory = memoryFor(layer);
    if (memory > MEMORY_LIMIT) throw new RangeError(`tensor ${JSON.stringify(name)} needs ${memory} bytes: too large for this reader`);
    const stored = [];
    for (const stream of layer.streams) {
      const { kind, sha256: expected } = stream;
      const data = await this.#readBehindGap(stream, stream.stored);
      const found = hexadecimal(await sha256(data));
      require(found === expected, "D2", () => `SHA-256 of stream ${kind} of ${JSON.stringify(name)} is ${found}, not ${expected}`);
      stored.push(data);
    }
    const decoded = layer.streams.map((stream, i) => [stream.kind, decodeStream(stored[i], stream, ...itemsAndWidth(layer))]);
    return { dtype: layer.dtype, shape: layer.shape, ...decodeLayer(layer, this.codebook(layer), Object.fromEntries(decoded)) };
  }
}

// Opens a file: steps 1 to 7 of section 9. Tensors are read and decoded as they are asked for.
export async function open(input) {
  const source = await sourceOf(input);
  const { length, frameLength, hash } = checkPreamble(await readExactly(source, 0, Math.min(PREAMBLE, source.length)), source.length);
  const bytes = await readExactly(source, PREAMBLE, length);
  require(hexadecimal(await sha256(bytes)) === hexadecimal(hash), "P7", "SHA-256 of the header differs");
  const header = readHeader(headerText(bytes, frameLength));
  checkHeader(header, PREAMBLE + length, source.length, frameLength > 0);
  return new BhkFile(source, PREAMBLE + length, header);
}

// Checks every rule and decodes every stream. Throws `Refused` for a file that is not sound.
export async function validate(input) {
  const file = await open(input);
  await file.checkPadding();
  for (const { name } of file.header.layers) await file.tensor(name);
}
