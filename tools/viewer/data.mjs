// The data of the page from an open file: the counterpart of bhk/reports/page_data.py. Its strings come from the file, so they are
// escaped here and only ever become text.

import { DTYPES, product } from "../../format_spec/js/rules.mjs";
import { scalesOf } from "./sketch.mjs";

const MOST_LAYERS = 2000; // as in reports: the largest ones are drawn
const MOST_ALIASES = 20;
const LONGEST_TEXT = 10_000;

// A string with all characters escaped that show nothing or turn the order of letters around.
export function shown(text) {
  const short = text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
  return short.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);
}

const storedBytes = ({ streams }) => streams.reduce((sum, { stored }) => sum + stored, 0);
export const denseBytes = ({ shape, dtype }) => product(shape) * DTYPES.get(dtype);
const float32Bytes = (layer) => (/^B?F/.test(layer.dtype) ? 4 * product(layer.shape) : denseBytes(layer));
const total = (layers, of) => layers.reduce((sum, layer) => sum + of(layer), 0);

// Returns the data, and the entries of the header that its layers stand for.
export function pageData(file, name, digest) {
  const { header } = file;
  const bySize = header.layers.map((layer, index) => [storedBytes(layer), index]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  const largest = new Set(bySize.slice(0, MOST_LAYERS).map(([, index]) => index));
  const drawn = header.layers.filter((_, index) => largest.has(index));
  const rest = header.layers.filter((_, index) => !largest.has(index));
  const against = header.metadata["source.name"] === undefined ? [] : ["--against", header.metadata["source.name"]];
  const data = {
    file: {
      name: shown(name), bytes: file.length, float32: total(header.layers, float32Bytes), sha256: digest, made_with: shown(header.generator),
      checked: "This page has checked the header, and checks the streams of a layer before it draws it.",
      model: header.model === null ? null : shown([header.model.family, header.model.variant].filter(Boolean).join(" ")),
      metadata: Object.entries(header.metadata).map(([key, value]) => [shown(key), shown(value)]),
      verify: ["bhk", "verify", name, ...against].map((word) => shown(quoted(word))).join(" "),
    },
    original: null, pictures: [],
    layers: drawn.map((layer) => layerData(layer, file.codebook(layer))),
    rest: {
      tensors: rest.length, coded: rest.filter(({ encoding }) => encoding !== "exact").length,
      dense: total(rest, denseBytes), weights: total(rest, ({ shape }) => product(shape)),
    },
  };
  return { data, drawn };
}

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);

function layerData(layer, codebook) {
  const { role, shape, dtype, encoding, pairing, error } = layer;
  return {
    name: shown(layer.name), aliases: layer.aliases.slice(0, MOST_ALIASES).map(shown), role, shape, dtype, encoding, pairing,
    bytes: storedBytes(layer), dense: denseBytes(layer), weights: product(shape),
    error: error && { mean: error.mean_abs, max: error.max_abs, snr: error.snr_db },
    codebook: codebook && { ...codebook, step: codebook.side / codebook.windings, scales: scalesOf(codebook) },
    streams: layer.streams.map(({ kind, codec, stored, decoded, sha256 }) => [kind, codec, stored, decoded, sha256]),
  };
}
