// Axes and histograms as SVG.

// Round values for about `wanted` ticks between two ends.
function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

function tickText(value) {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude >= 1e5 || magnitude < 1e-4) return value.toExponential(1).replace("e-", "e−").replace("-", "−");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

// A linear scale from values to positions. `to` may be less than `from`, as on the vertical axis of a screen.
const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

// The outline of bars, closed along the base line.
function barsPath(counts, x, y) {
  let path = `M${x(0).toFixed(1)} ${y(0).toFixed(1)}`;
  counts.forEach((value, i) => {
    path += `V${y(value).toFixed(1)}H${x(i + 1).toFixed(1)}`;
  });
  return `${path}V${y(0).toFixed(1)}Z`;
}

// series: [{counts, colour, filled, name}] in the same bins; `label` is the text for screen readers.
function histogram({ series, low, width, logarithmic, label, marks = [] }) {
  const W = 430, H = 150, bottom = 124;
  const bins = series[0].counts.length;
  const height = logarithmic ? (value) => Math.log10(1 + value) : (value) => value;
  const most = Math.max(...series.flatMap(({ counts }) => Array.from(counts, height)), 1e-9);
  const y = linear(0, most, bottom, 8);
  const x = linear(0, bins, 6, W - 6);
  const place = (value) => x((value - low) / width);
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  for (const value of ticks(low, low + bins * width)) {
    const at = place(value);
    const text = svg("text", { x: at, y: H - 8, "text-anchor": at < 24 ? "start" : at > W - 24 ? "end" : "middle" }, tickText(value));
    picture.append(svg("line", { x1: at, x2: at, y1: 8, y2: bottom + 4, class: "grid" }), text);
  }
  for (const { counts, colour, filled } of series) {
    const path = { d: barsPath(Array.from(counts, height), x, y), fill: filled ? colour : "none" };
    picture.append(svg("path", filled ? { ...path, "fill-opacity": 0.55 } : { ...path, stroke: colour, "stroke-width": 1.4 }));
  }
  for (const value of marks) {
    picture.append(svg("line", { x1: place(value), x2: place(value), y1: 8, y2: bottom, class: "axis", "stroke-dasharray": "3 3" }));
  }
  picture.append(svg("line", { x1: 6, x2: W - 6, y1: bottom, y2: bottom, class: "axis" }));
  return picture;
}

function seriesLegend(series) {
  return el("div", { class: "legend" }, ...series.map(({ name, colour }) => el("span", {}, swatch(colour), name)));
}
