// The panel of one layer.

let logarithmic = false;
let cameFrom = null;

const LATTICE_WORDS = { centred: "centred", corner: "from the corner", grid: "a grid" };

function layerFacts(layer) {
  const list = [
    ["Role", layer.role],
    ["Shape", shape(layer)],
    ["Dtype", layer.dtype],
    ["Bytes", `${count(layer.bytes)} (of ${size(layer.dense)})`],
    ["Bits per weight", layer.bits.toFixed(3)],
    ["Ratio", fixed(layer.ratio, 2)],
  ];
  if (layer.encoding === "exact") return facts([...list, ["Encoding", "exact, no error"]]);
  const { codebook, error } = layer;
  return facts([...list,
    ["SNR", layer.snr === null ? "–" : `${decibels(layer)} dB`],
    ["Largest error", small(error.max)],
    ["Mean error", small(error.mean)],
    ["Lattice step", small(codebook.step)],
    ["Windings", `${codebook.windings}, ${LATTICE_WORDS[codebook.lattice]}`],
    ["Shells", String(codebook.shells)],
    ["Side of the square", codebook.side.toPrecision(4)],
    ["Centre", codebook.centre.map((value) => tickText(Number(value.toPrecision(2)))).join(", ")],
    ["Pairs", layer.pairing === "rows" ? "along rows" : "flat"],
  ]);
}

function weightsFigure(layer) {
  const { sketch } = layer;
  const series = [{ name: layer.encoding === "exact" ? "stored weights" : "decoded weights", counts: bytes(sketch.decoded, Uint32Array), colour: "var(--accent)", filled: true }];
  if (sketch.original) series.push({ name: "original", counts: bytes(sketch.original, Uint32Array), colour: "var(--second)", filled: false });
  const toggle = el("input", { type: "checkbox", checked: logarithmic });
  const holder = el("div");
  const draw = () => holder.replaceChildren(histogram({ series, low: sketch.low, width: sketch.width, logarithmic, label: `Histogram of ${count(sketch.sampled)} weights` }));
  toggle.addEventListener("change", () => { logarithmic = toggle.checked; draw(); });
  draw();
  const all = sketch.sampled === layer.weights ? "All" : "A sample of";
  return el("figure", {},
    el("div", { class: "label" }, "Weights", el("label", {}, toggle, " log counts")), holder, seriesLegend(series),
    el("figcaption", {}, `${all} ${count(sketch.sampled)} weights. The outermost bars include everything beyond.`));
}

function errorFigure(layer) {
  const { sketch: { error, reach } } = layer;
  if (!error) return null;
  const counts = bytes(error, Uint32Array);
  const series = [{ counts, colour: "var(--accent)", filled: true }];
  const picture = histogram({ series, low: -reach, width: (2 * reach) / counts.length, marks: [-0.5, 0.5], label: "Histogram of errors, in lattice steps" });
  return el("figure", {}, el("div", { class: "label" }, "Errors, in lattice steps"), picture,
    el("figcaption", {}, "Decoded minus original. Inside the square, errors are spread evenly over ± half a step (dashed); larger ones belong to outliers."));
}

function streamList(layer) {
  const names = layer.aliases.length ? [el("p", {}, `Also named ${layer.aliases.join(", ")}`)] : [];
  const items = layer.streams.map(([kind, codec, stored, decoded, hash]) =>
    el("li", {}, `${kind === "codes" && codec === "zstd" ? "codes, a byte a pair" : kind}: ${count(stored)} bytes (${codec}, ${count(decoded)} decoded); SHA-256 `, el("code", {}, hash)));
  return el("details", {}, el("summary", {}, `${plural(layer.streams.length, "stream")} with hashes`), ...names, el("ul", { class: "hashes" }, ...items));
}

// In a page that reads the file itself: gets what is missing, and shows the layer again if it is still selected.
function readSketch(layer) {
  const found = (sketch) => { layer.sketch = sketch; };
  const failed = (error) => { layer.trouble = error.message; };
  const again = () => { if (map.isConnected && selected === layer.index) showLayer(layer); };
  layer.reading ??= sketchOf(layer.index).then(found, failed).then(again);
}

function showLayer(layer, from) {
  $("layer-title").textContent = layer.name;
  const parts = [layerFacts(layer)];
  if (layer.sketch === undefined) {
    parts.push(el("p", { class: "note", role: "status" }, layer.trouble ?? "Reading and decoding this layer …"));
    readSketch(layer);
  } else if (layer.sketch) {
    parts.push(weightsFigure(layer), errorFigure(layer));
    if (layer.sketch.pairs) parts.push(el("h3", {}, "Codebook over the pairs of weights"), codebookFigures(layer));
  }
  parts.push(streamList(layer));
  $("layer-body").replaceChildren(...parts.filter((part) => part !== null));
  if (!from) return;
  cameFrom = from;
  const { top } = $("layer-title").getBoundingClientRect();
  const visible = top >= 0 && top < 0.7 * innerHeight;
  $("back").hidden = visible;
  if (visible) return;
  $("layer").scrollIntoView({ block: "start" });
  $("layer").focus({ preventScroll: true });
}

function goBack() {
  if (!cameFrom) return;
  cameFrom.scrollIntoView({ block: "center" });
  cameFrom.focus({ preventScroll: true });
}

$("back").addEventListener("click", goBack);
$("layer").addEventListener("keydown", (event) => { if (event.key === "Escape") goBack(); });
listeners.push(showLayer);
