// Summary, provenance, and the layer shown first.

function summary() {
  const { file, rest } = data;
  const dense = layers.reduce((sum, layer) => sum + layer.dense, rest.dense);
  const weights = layers.reduce((sum, layer) => sum + layer.weights, rest.weights);
  const lossy = layers.filter((layer) => layer.encoding !== "exact");
  const tensors = layers.length + rest.tensors, coded = lossy.length + rest.coded;
  const lowest = lossy.filter((layer) => layer.snr !== null).sort((a, b) => a.snr - b.snr)[0];
  const times = (bytes) => `${(bytes / file.bytes).toFixed(2)}×`;
  const float32 = file.float32 === dense ? "" : `, ${times(file.float32)} from float32`;
  const tiles = [
    ["File", size(file.bytes), `${count(file.bytes)} bytes`],
    ["Ratio", dense ? times(dense) : "–", `from ${size(dense)}${float32}`],
    ["Bits per weight", weights ? ((8 * file.bytes) / weights).toFixed(2) : "–", `${count(weights)} weights`],
    ["Tensors", count(tensors), `${count(coded)} coded, ${count(tensors - coded)} exact`],
    ["Lowest SNR", lowest ? `${lowest.snr.toFixed(1)} dB` : "–", lowest ? lowest.name : "all tensors exact"],
  ];
  if (data.pictures.length) {
    const masks = data.pictures.flatMap((picture) => picture.masks);
    tiles.push(["Mask IoU", meanIou(masks).toFixed(3), `mean of ${plural(masks.length, "mask")}`]);
  }
  const list = tiles.map(([term, value, more], i) =>
    el("div", { class: i === 1 ? "lead" : null }, el("dt", {}, term), el("dd", {}, el("strong", {}, value), el("small", {}, more))));
  const share = dense ? Math.min((1000 * file.bytes) / dense, 1000) : 0;
  const bar = svg("svg", { class: "weight", viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img", "aria-label": `The file takes ${(share / 10).toFixed(1)} % of the bytes of the original tensors` },
    svg("rect", { width: 1000, height: 10, fill: "var(--neutral)" }), svg("rect", { width: share, height: 10, fill: "var(--accent)" }));
  $("summary").append(el("dl", { class: "tiles" }, ...list), bar);
  $("subtitle").textContent = [file.model, methodText(lossy), file.made_with].filter(Boolean).join(" · ");
}

function methodText(lossy) {
  if (!lossy.length) return "all tensors exact";
  if (lossy.every((layer) => layer.codebook.lattice === "corner")) return "published method (birkhoff)";
  const steps = lossy.map((layer) => layer.codebook.step).sort((a, b) => a - b);
  return `fitted trajectories, median step ${steps[steps.length >> 1].toPrecision(3)}`;
}

function provenance() {
  const { file } = data;
  const entries = [["File", file.name], ["SHA-256 of the file", file.sha256], ["Made with", file.made_with], ...file.metadata];
  $("provenance").append(...entries.filter(([, value]) => value !== null).flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
  $("verify").textContent = file.verify;
  $("provenance-note").textContent = `${file.checked} `
    + (data.original === null
      ? "The errors are those measured when the file was written. The original was not given for this page, so it shows neither its weights nor a comparison of masks."
      : `The histograms of the original and of the errors come from ${data.original}. All sampled weights are within the errors that the file states.`);
}

summary();
provenance();
const largest = layers.reduce((a, b) => (Boolean(a.codebook) === Boolean(b.codebook) ? a.bytes >= b.bytes : a.codebook) ? a : b, layers[0]);
if (largest) select(largest.index);
else $("layer").hidden = true;
