// The layer map: a squarified treemap (Bruls, Huizing and van Wijk, 2000) of blocks, with their layers inside.

function squarify(items, box) {
  const placed = [];
  const sorted = items.filter((item) => item.value > 0).sort((a, b) => b.value - a.value);
  let { x, y, w, h } = box;
  let left = sorted.reduce((sum, item) => sum + item.value, 0);
  for (let start = 0; start < sorted.length;) {
    const scale = (w * h) / left;
    const side = Math.min(w, h);
    let end = start, sum = 0, worst = Infinity;
    while (end < sorted.length) {
      const next = sum + sorted[end].value;
      const ratio = (value) => Math.max((side * side * value) / (next * next * scale), (next * next * scale) / (side * side * value));
      const now = Math.max(ratio(sorted[start].value), ratio(sorted[end].value));
      if (now > worst) break;
      worst = now; sum = next; end += 1;
    }
    const depth = side > 0 ? (sum * scale) / side : 0;
    let at = 0;
    for (const item of sorted.slice(start, end)) {
      const length = (item.value / sum) * side;
      placed.push([item, w >= h ? { x, y: y + at, w: depth, h: length } : { x: x + at, y, w: length, h: depth }]);
      at += length;
    }
    if (w >= h) { x += depth; w = Math.max(w - depth, 0); } else { y += depth; h = Math.max(h - depth, 0); }
    left -= sum; start = end;
  }
  return placed;
}

const block = (name) => (/^.*?\.\d+(?=\.|$)/.exec(name) ?? [name.split(".")[0]])[0];

// Values for the colour scale; layers stored exactly are neutral.
const SCALES = {
  bits: { text: "Bits per weight", of: (layer) => layer.bits, show: (value) => value.toFixed(1) },
  snr: { text: "SNR", of: (layer) => layer.snr, show: (value) => `${value.toFixed(1)} dB` },
  max: { text: "Largest error", of: (layer) => (layer.max ? Math.log10(layer.max) : null), show: (value) => small(10 ** value) },
  role: { text: "Role" },
};

function scaleOf(kind) {
  if (kind === "role") return { colour: (layer) => ROLES[layer.role] };
  const { of, show } = SCALES[kind];
  const values = layers.filter((layer) => layer.encoding !== "exact").map(of).filter((value) => value !== null);
  const low = Math.min(...values), high = Math.max(...values);
  const colour = (layer) => {
    const value = layer.encoding === "exact" ? null : of(layer);
    return value === null ? "var(--neutral)" : css(viridis(high > low ? (value - low) / (high - low) : 0.5));
  };
  return { colour, ends: values.length ? [show(low), show(high)] : null };
}

function swatch(colour) {
  return svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { width: 12, height: 12, rx: 2, fill: colour }));
}

function roleLegend(target, present) {
  target.replaceChildren(...Object.keys(ROLES).filter((role) => present.has(role)).map((role) => el("span", {}, swatch(ROLES[role]), role)));
}

function mapLegend(kind, scale) {
  if (kind === "role") return roleLegend($("map-legend"), new Set(layers.map((layer) => layer.role)));
  const stops = VIRIDIS.map((colour, i) => svg("rect", { x: i * 12, width: 12.5, height: 12, fill: css(colour) }));
  const ramp = svg("svg", { width: VIRIDIS.length * 12, height: 12, role: "img", "aria-label": "from dark (low) to bright (high)" }, ...stops);
  $("map-legend").replaceChildren(
    ...(scale.ends ? [el("span", {}, scale.ends[0], ramp, scale.ends[1])] : []),
    el("span", {}, swatch("var(--neutral)"), "stored exactly"),
  );
}

const cells = layers.map((layer) => {
  const cell = el("button", { type: "button", tabindex: "-1", "aria-pressed": "false", "aria-label": describe(layer).replace("\n", ": ") });
  cell.addEventListener("click", () => select(layer.index, cell));
  tip(cell, () => describe(layer));
  return cell;
});
const map = $("map");
let mapOrder = [];
let laidOut = null;

function layMap() {
  if (!map.isConnected) return; // another file has been drawn
  const box = { x: 0, y: 0, w: map.clientWidth, h: map.clientHeight };
  if (laidOut && laidOut.w === box.w && laidOut.h === box.h) return;
  laidOut = box;
  const groups = new Map();
  for (const layer of layers) {
    const name = block(layer.name);
    if (!groups.has(name)) groups.set(name, { name, value: 0, layers: [] });
    const group = groups.get(name);
    group.value += layer.bytes;
    group.layers.push({ value: layer.bytes, layer });
  }
  const parts = [];
  mapOrder = [];
  for (const [group, place] of squarify([...groups.values()], box)) {
    const inner = { x: place.x + 1, y: place.y + 1, w: Math.max(place.w - 2, 0), h: Math.max(place.h - 2, 0) };
    if (inner.w > 56 && inner.h > 44) {
      const label = el("span", { "aria-hidden": "true" }, inner.w < 150 ? group.name.replace(/^.*\.(?=[^.]*\.\d+$)/, "") : group.name);
      parts.push(position(label, { ...inner, h: 15 }));
      inner.y += 15; inner.h -= 15;
    }
    for (const [item, spot] of squarify(group.layers, inner)) {
      mapOrder.push(position(cells[item.layer.index], spot));
    }
  }
  const focused = document.activeElement;
  map.replaceChildren(...parts, ...mapOrder);
  if (mapOrder.includes(focused)) focused.focus({ preventScroll: true });
}

function position(node, { x, y, w, h }) {
  Object.assign(node.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
  return node;
}

function paintMap(kind) {
  const scale = scaleOf(kind);
  for (const layer of layers) cells[layer.index].style.background = scale.colour(layer);
  mapLegend(kind, scale);
}

const firstCell = roving(map, () => mapOrder);
choice($("map-colour"), "map-colour", Object.entries(SCALES).map(([kind, { text }]) => [kind, text]), paintMap);
layMap();
paintMap("bits");
firstCell();
new ResizeObserver(() => requestAnimationFrame(layMap)).observe(map);
listeners.push((layer) => {
  for (const [index, cell] of cells.entries()) cell.setAttribute("aria-pressed", String(index === layer.index));
});
