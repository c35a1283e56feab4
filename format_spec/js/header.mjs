// Sections 2 and 3 of ../README.md, and steps 1 to 7 of its section 9: from the bytes of a header to a layer map that can be trusted.

import { Real, parse } from "./json.mjs";
import { DTYPES, Refused, chunkCount, inBytes, itemsAndWidth, packedLength, require, scales } from "./rules.mjs";
import { ZstdError, contentSize, decompress } from "./zstd.mjs";

const MAGIC = [0x89, 0x42, 0x48, 0x4b, 0x0d, 0x0a, 0x1a, 0x0a];
export const PREAMBLE = 64;
const MOST_HEADER = 2 ** 26;
const TEXT_LIMIT = 2 ** 22, TEXT_RATIO = 32; // this reader's own: a longer text that is many times its frame (section 13, item 2)

export const aligned = (position) => Math.ceil(position / 64) * 64;
const quoted = (text) => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);

// ------------------------------------------------------------------------------------------------ 2 The file, step 1

// Checks the preamble (fewer bytes of a shorter file) and returns H, Z and the SHA-256 that the header has to have.
export function checkPreamble(bytes, fileLength) {
  const magic = MAGIC.every((value, i) => i >= bytes.length || bytes[i] === value);
  require(magic, "P2", "the file does not start with the magic");
  require(bytes.length === PREAMBLE, "P1", `the file has ${fileLength} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREAMBLE);
  const major = view.getUint16(8, true), frameLength = view.getUint32(12, true);
  const length = Number(view.getBigUint64(16, true)), declared = view.getBigUint64(24, true);
  require(major === 1, "P3", `major version ${major}`);
  require(frameLength === 0 || PREAMBLE + length === aligned(PREAMBLE + frameLength), "P4",
    `compressed header of ${frameLength} bytes, header length ${length}`);
  require(length >= 2 && length <= MOST_HEADER && length % 64 === 0, "P5", `header length ${length}`);
  require(declared === BigInt(fileLength), "P6", `the file has ${fileLength} bytes, not ${declared}`);
  require(PREAMBLE + length <= fileLength, "P5", `header of ${length} bytes goes beyond the end of the file`);
  return { length, frameLength, hash: bytes.slice(32, 64) };
}

// Returns the text in the bytes of the header, whose hash has been checked; rule P8.
export function headerText(bytes, frameLength) {
  if (frameLength === 0) return bytes;
  require(bytes.subarray(frameLength).every((value) => value === 0), "P8", "bytes behind the frame of the header are not zero");
  const frame = bytes.subarray(0, frameLength);
  try {
    const size = contentSize(frame);
    require(size !== null && size >= 2 && size <= MOST_HEADER, "P8", "content size of the frame of the header");
    if (size > TEXT_LIMIT && size > TEXT_RATIO * frameLength) throw new RangeError(`a header of ${size} bytes in ${frameLength}: too large for this reader`);
    return decompress(frame, size);
  } catch (error) {
    throw error instanceof ZstdError ? new Refused("P8", error.message) : error;
  }
}

// ---------------------------------------------------------------------------------------------- 3.2 Objects, steps 2 to 4

// A type is "string", "integer", "number", "any", [type], [type, length] for an array, {map: type}, or {fields: {key: field}}.
// A field is [type] when it is required, else [type, default]; those whose default is null may be null.
const STREAM = { fields: {
  kind: ["string"], codec: ["string", "zstd"], stored: ["integer"], decoded: ["integer"], sha256: ["string"],
  chunk: ["integer", 2 ** 20], chunks: [["integer"], []], bits: ["integer", 0], window: [["integer", 3], null], offset: ["integer", 0],
} };
const ERROR = { fields: { mean_abs: ["number"], max_abs: ["number"], snr_db: ["number", null] } };
const LAYER = { fields: {
  name: ["string"], shape: [["integer"]], dtype: ["string"], role: ["string"], encoding: ["string"], pairing: ["string", null],
  codebook: ["integer", null], error: [ERROR, null], streams: [[STREAM], []], aliases: [["string"], []],
} };
const CODEBOOK = { fields: {
  centre: [["number", 2]], side: ["number"], windings: ["integer"], lattice: ["string", "centred"], shells: ["integer", 0],
  spacing: ["number", 0],
} };
const MODEL = { fields: { family: ["string"], variant: ["string", null], arguments: [{ map: "any" }, {}] } };
const HEADER = { fields: {
  generator: ["string"], layers: [[LAYER]], codebooks: [[CODEBOOK], []], required_features: [["string"], []],
  metadata: [{ map: "string" }, {}], model: [MODEL, null],
} };
const FEATURES = ["scalar-bytes", "grid-lattice"];

// Returns the header of a text as section 3.2 has it: defaults filled in, extension keys left out.
export function readHeader(text) {
  const tree = parse(text);
  const features = tree.get("required_features");
  for (const feature of Array.isArray(features) ? features : []) {
    require(typeof feature !== "string" || FEATURES.includes(feature), "H5", () => `required feature ${quoted(feature)}`);
  }
  return typed(tree, HEADER, "header");
}

function typed(value, type, place) {
  if (type === "any") return plain(value);
  if (type === "string") {
    require(typeof value === "string", "H4", () => `${place} is not a string`);
    return value;
  }
  if (type === "integer") {
    require(Number.isSafeInteger(value), "H4", () => `${place} is not an integer`);
    return value;
  }
  if (type === "number") {
    require(typeof value === "number" || value instanceof Real, "H4", () => `${place} is not a number`);
    return plain(value);
  }
  if (Array.isArray(type)) {
    const [inner, length] = type;
    require(Array.isArray(value), "H4", () => `${place} is not an array`);
    require(length === undefined || value.length === length, "H4", () => `${place} has ${value.length} elements`);
    return value.map((item) => typed(item, inner, `${place}[]`));
  }
  require(value instanceof Map, "H4", () => `${place} is not an object`);
  return type.map ? mapOf(value, (item, key) => typed(item, type.map, `${place} ${quoted(key)}`)) : object(value, type.fields, place);
}

function object(entries, fields, place) {
  const result = {};
  for (const key of Object.keys(fields)) [, result[key]] = fields[key];
  for (const [key, item] of entries) {
    if (Object.hasOwn(fields, key)) {
      const [type, otherwise] = fields[key];
      result[key] = item === null && otherwise === null ? null : typed(item, type, `${place}.${key}`);
    } else {
      require(key.startsWith("x-"), "H3", () => `unknown key ${quoted(key)} in ${place}`);
    }
  }
  for (const key of Object.keys(fields)) require(result[key] !== undefined, "H4", () => `${place} lacks ${key}`);
  return result;
}

// An object without a prototype: no key has a meaning of its own.
function mapOf(entries, convert) {
  const result = Object.create(null);
  for (const [key, item] of entries) result[key] = convert(item, key);
  return result;
}

function plain(value) {
  if (value instanceof Real) return value.value;
  if (value instanceof Map) return mapOf(value, plain);
  return Array.isArray(value) ? value.map(plain) : value;
}

// ------------------------------------------------------------------------------------------------ 8 Rules, steps 5 to 7

const ROLES = ["linear", "conv", "embedding", "norm", "bias", "buffer", "other"];
const KINDS = ["winding", "phase", "shell", "codes", "values"];
const CODECS = { codes: ["packed", "zstd"], values: ["none", "zstd", "shuffle+zstd"] }; // 6.1; the other kinds: zstd
const CODED = ["F64", "F32", "F16", "BF16"];
const LAYER_LIMIT = 2 ** 20, METADATA_LIMIT = 4096, ELEMENT_LIMIT = 2 ** 48, CHUNK_LIMIT = 2 ** 20;

// Checks a header of a file; the header ends at `end`. Gives each stream its `offset`.
export function checkHeader(header, end, fileLength, compressed) {
  for (const [key, limit] of [["layers", LAYER_LIMIT], ["codebooks", LAYER_LIMIT], ["metadata", METADATA_LIMIT]]) {
    const { length } = Array.isArray(header[key]) ? header[key] : Object.keys(header[key]);
    require(length <= limit, "H6", `${length} ${key}`);
  }
  for (const key of Object.keys(header.metadata)) checkName(key);
  header.codebooks.forEach((book, index) => checkCodebook(book, index, header.required_features));
  const last = checkLayers(header, end, fileLength, compressed);
  require(last === fileLength, "S10", `the streams end at ${last}, the file at ${fileLength}`);
}

function checkName(name) {
  require(new TextEncoder().encode(name).length <= 1024, "N1", "a name has more than 1,024 bytes");
  require(!/[\u0000-\u001f\u007f-\u009f]/.test(name), "N1", () => `control character in name ${quoted(name)}`);
}

function checkCodebook(book, index, features) {
  const { centre, side, windings, lattice, shells, spacing } = book;
  const of = `of codebook ${index}`;
  require(["centred", "corner", "grid"].includes(lattice), "C5", () => `lattice ${quoted(lattice)} ${of}`);
  require(lattice !== "grid" || features.includes("grid-lattice"), "C5", `lattice grid ${of} without its feature`);
  for (const value of [...centre, side, spacing]) require(Math.fround(value) === value, "C1", `${value} ${of} is not a float32`);
  require(windings >= 1 && windings <= 256, "C2", `${windings} windings ${of}`);
  require(shells >= 0 && shells <= 255, "C3", `${shells} shells ${of}`);
  require(shells ? spacing > 0 : spacing === 0, "C3", `spacing ${spacing} ${of} with ${shells} shells`);
  require(side >= 2 ** -100 && side <= 2 ** 100, "C4", `side ${side} ${of}`);
  require(centre.every((value) => Math.abs(value) <= 2 ** 120), "C4", `centre ${centre} ${of}`);
  require(shells * spacing <= 2 ** 120, "C4", `${shells} shells with spacing ${spacing} ${of}`);
  require(Number.isFinite(scales(book).at(-1)), "C4", `infinite scale ${of}`);
}

function checkLayers(header, end, fileLength, compressed) {
  const seen = new Set();
  let position = end;
  for (const layer of header.layers) {
    require(layer.aliases.length <= LAYER_LIMIT, "H6", `${layer.aliases.length} aliases`);
    for (const name of [layer.name, ...layer.aliases]) {
      checkName(name);
      require(!seen.has(name), "N2", () => `name ${quoted(name)} stands twice`);
      seen.add(name);
    }
    const of = `of layer ${quoted(layer.name)}`;
    checkLayer(layer, header.codebooks, of);
    const codebook = layer.codebook === null ? null : header.codebooks[layer.codebook];
    for (const stream of layer.streams) {
      checkCoding(stream, codebook, header.required_features, of);
      checkLengths(stream, ...itemsAndWidth(layer), of);
    }
    for (const stream of layer.streams) {
      const start = compressed && stream.codec.endsWith("zstd") ? position : aligned(position);
      require(stream.offset === (compressed ? 0 : start), "S4", `offset ${stream.offset} ${of}`);
      stream.offset = start;
      position = start + stream.stored;
      require(position <= fileLength, "S10", `a stream ${of} goes beyond the end of the file`);
    }
  }
  return position;
}

function checkLayer(layer, codebooks, of) {
  const { shape, pairing, codebook: index, error } = layer;
  require(DTYPES.has(layer.dtype), "L1", () => `dtype ${quoted(layer.dtype)} ${of}`);
  require(ROLES.includes(layer.role), "L2", () => `role ${quoted(layer.role)} ${of}`);
  require(layer.encoding === "trajectory" || layer.encoding === "exact", "L3", () => `encoding ${quoted(layer.encoding)} ${of}`);
  require(shape.length <= 32, "L4", `${shape.length} dimensions ${of}`);
  require(shape.every((size) => size >= 0), "L4", `negative size ${of}`);
  const within = (elements, size) => (elements < ELEMENT_LIMIT ? elements * (size || 1) : elements); // stops where it passes the limit
  require(shape.reduce(within, 1) < ELEMENT_LIMIT, "L4", `too many elements ${of}`);
  if (layer.encoding === "exact") {
    require(pairing === null, "L5", `pairing ${of}, which is exact`);
    require(index === null, "L6", `codebook ${of}, which is exact`);
    require(error === null, "L8", `error ${of}, which is exact`);
  } else {
    require(CODED.includes(layer.dtype) && !shape.includes(0), "L7", `dtype or shape ${of}`);
    require(pairing === "flat" || (pairing === "rows" && shape.length >= 2), "L5", `pairing ${of}`);
    require(index !== null && index >= 0 && index < codebooks.length, "L6", `codebook ${index} ${of}`);
    require(error !== null && error.mean_abs >= 0 && error.max_abs >= 0, "L8", `error ${of}`);
  }
  const kinds = layer.streams.map(({ kind }) => kind);
  for (const kind of kinds) require(KINDS.includes(kind), "S1", () => `stream ${quoted(kind)} ${of}`);
  require(streamSets(layer, codebooks[index]).includes(kinds.join(" ")), "S3", () => `streams ${kinds.slice(0, 9)} ${of}`);
}

// 6.1: the kinds of streams that a layer may have.
function streamSets(layer, codebook) {
  if (layer.encoding === "exact") return [layer.shape.includes(0) ? "" : "values"];
  const shell = codebook.shells ? " shell" : "";
  const bytesFirst = layer.streams.length > 0 && inBytes(layer.streams[0]);
  return [`winding phase${shell}`, bytesFirst ? `codes${shell}` : "codes"];
}

function checkCoding(stream, codebook, features, of) {
  const { kind, codec, bits, window } = stream;
  require((CODECS[kind] ?? ["zstd"]).includes(codec), "S2", () => `codec ${quoted(codec)} ${of}`);
  require(!inBytes(stream) || features.includes("scalar-bytes"), "S2", `codec zstd ${of} without its feature`);
  if (codec === "packed") {
    const largest = (codebook.shells + 1) * codebook.windings ** 2 - 1;
    require(bits >= 1 && bits <= Math.max(32 - Math.clz32(largest), 1), "S8", `${bits} bits a code ${of}`);
  } else {
    require(bits === 0, "S8", `bits ${of}`);
  }
  require((window !== null) === inBytes(stream), "S11", `window ${of}`);
  if (window === null) return;
  const [q0, r0, phases] = window;
  const n = codebook.windings;
  require(q0 >= 0 && q0 < n && r0 >= 0 && phases >= 1 && r0 + phases <= n, "S11", `window ${window} ${of}`);
}

function checkLengths(stream, items, width, of) {
  const { codec, chunk, chunks, stored, decoded, sha256 } = stream;
  require(chunk >= 1 && chunk <= CHUNK_LIMIT, "S6", `chunks of ${chunk} items ${of}`);
  require(chunkCount(stream, items) <= CHUNK_LIMIT, "S6", `too many chunks ${of}`);
  require(decoded === decodedLength(stream, items, width), "S5", `decoded length ${of}`);
  if (codec === "none" || codec === "packed") {
    require(chunks.length === 0, "S6", `list of chunks ${of}, whose codec is ${codec}`);
    require(stored === decoded, "S7", `stored length ${of}`);
  } else {
    const lengths = chunks.length ? chunks : [stored];
    require(lengths.length === chunkCount(stream, items), "S6", `${chunks.length} chunks listed ${of}`);
    require(lengths.every((length) => length > 0), "S6", `an empty chunk ${of}`);
    const sum = lengths.reduce((all, length) => (all > stored ? all : all + length), 0); // stops where it passes `stored`
    require(sum === stored, "S7", `stored length ${of}`);
  }
  require(/^[0-9a-f]{64}$/.test(sha256), "S9", `sha256 ${of}`);
}

function decodedLength({ codec, chunk, bits }, items, width) {
  if (codec !== "packed") return items * width;
  return Math.floor(items / chunk) * packedLength(chunk, bits) + packedLength(items % chunk, bits);
}
