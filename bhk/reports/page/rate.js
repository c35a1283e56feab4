// Rate and error: one dot per coded layer.

const coded = layers.filter((layer) => layer.snr !== null).sort((a, b) => a.bits - b.bits);
const dots = new Map();

function rateChart() {
  const [W, H] = $("rate").clientWidth < 520 ? [400, 340] : [760, 430];
  const left = 46, right = 14, top = 12, bottom = 44;
  const bits = coded.map((layer) => layer.bits), snrs = coded.map((layer) => layer.snr);
  const [b0, b1] = [Math.max(Math.min(...bits) - 0.5, 0), Math.max(...bits) + 0.5];
  const [s0, s1] = [Math.min(...snrs) - 3, Math.max(...snrs) + 3];
  const x = linear(b0, b1, left, W - right), y = linear(s0, s1, H - bottom, top);
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": "Signal-to-noise ratio against bits per weight, one dot per layer" });
  for (const value of ticks(b0, b1, W / 100)) {
    picture.append(svg("line", { x1: x(value), x2: x(value), y1: top, y2: H - bottom, class: "grid" }),
      svg("text", { x: x(value), y: H - bottom + 18, "text-anchor": "middle" }, tickText(value)));
  }
  for (const value of ticks(s0, s1, 7)) {
    picture.append(svg("line", { x1: left, x2: W - right, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, tickText(value)));
  }
  picture.append(svg("text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }, "stored bits per weight"),
    svg("text", { x: 12, y: (top + H - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + H - bottom) / 2})` }, "SNR, dB"),
    svg("clipPath", { id: "plot" }, svg("rect", { x: left, y: top, width: W - left - right, height: H - top - bottom })));
  for (const [offset, dashes] of [[-1.53, null], [0, "5 4"]]) {
    const snr = (value) => 6.0206 * value + offset;
    picture.append(svg("line", { x1: x(b0), x2: x(b1), y1: y(snr(b0)), y2: y(snr(b1)), class: "axis", "stroke-width": 1.5, "stroke-dasharray": dashes, "clip-path": "url(#plot)" }));
  }
  const most = Math.max(...coded.map((layer) => layer.bytes));
  for (const layer of coded) {
    const node = svg("circle", { cx: x(layer.bits), cy: y(layer.snr), r: 3.5 + 6 * Math.sqrt(layer.bytes / most), fill: ROLES[layer.role], "fill-opacity": 0.8,
      role: "button", tabindex: -1, "aria-pressed": "false", "aria-label": describe(layer).replace("\n", ": ") });
    node.addEventListener("click", () => select(layer.index, node));
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      select(layer.index, node);
    });
    tip(node, () => describe(layer));
    dots.set(layer.index, node);
  }
  picture.append(...[...coded].sort((a, b) => b.bytes - a.bytes).map((layer) => dots.get(layer.index)));
  return picture;
}

function lineSample(text, dashes) {
  return el("span", {}, svg("svg", { width: 26, height: 12, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, class: "axis", "stroke-width": 1.5, "stroke-dasharray": dashes })), text);
}

if (coded.length) {
  $("rate").append(rateChart());
  roleLegend($("rate-legend"), new Set(coded.map((layer) => layer.role)));
  $("rate-legend").append(lineSample("entropy-coded lattice", null), lineSample("rate–distortion bound (normal weights)", "5 4"));
  roving($("rate"), () => coded.map((layer) => dots.get(layer.index)))();
  listeners.push((layer) => {
    for (const [index, node] of dots) node.setAttribute("aria-pressed", String(index === layer.index));
  });
} else {
  $("rate").append(el("p", { class: "note" }, "All layers of this file are stored exactly."));
}
