// Shared by all parts of the page: elements, numbers as text, colours, keyboard.
//
// The files up to start.js are joined into the body of one function, draw(data, sketchOf), which draws a file into main.html.
// data is what bhk.reports.page_data makes. A page that reads the file itself leaves out `sketch` of each layer and gives a
// function sketchOf(index), which promises it.
const layers = data.layers;
for (const [index, layer] of layers.entries()) {
  layer.index = index;
  layer.bits = layer.weights ? (8 * layer.bytes) / layer.weights : 0;
  layer.ratio = layer.bytes ? layer.dense / layer.bytes : null;
  layer.snr = layer.error ? layer.error.snr : null;
  layer.max = layer.error ? layer.error.max : 0;
}
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

// Okabe and Ito, Color Universal Design (2008), some of them darker for contrast.
const ROLES = {
  linear: "#0072b2", conv: "#d55e00", embedding: "#009e73", norm: "#e69f00", bias: "#cc79a7", buffer: "#56b4e9", other: "#8a8f98",
};
// matplotlib's viridis (Smith and van der Walt, 2015; CC0) at nine even steps.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[low].map((value, i) => Math.round(value + (at - low) * (VIRIDIS[low + 1][i] - value)));
}
const css = (colour) => `rgb(${colour.join(" ")})`;

// Elements are built from text, never from markup, because names come from files.
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function bytes(text, Kind) {
  if (typeof text !== "string") return text; // a page that reads the file itself has arrays
  const raw = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return new Kind(raw.buffer);
}

const whole = new Intl.NumberFormat("en");
const count = (value) => whole.format(value);
const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));
const small = (value) => (value ? value.toExponential(2).replace("e-", "e−") : "0");
function size(value) {
  for (const unit of ["B", "kB", "MB"]) {
    if (value < 999.5) return `${unit === "B" ? value : Number(value.toPrecision(3))} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(2)} GB`;
}
const shape = (layer) => layer.shape.join(" × ") || "scalar";
const decibels = (layer) => (layer.snr === null ? (layer.encoding === "exact" ? "exact" : "–") : layer.snr.toFixed(1));
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function describe(layer) {
  const error = layer.encoding === "exact" ? "stored exactly" : `${decibels(layer)} dB`;
  return `${layer.name}\n${layer.role}, ${shape(layer)}, ${size(layer.bytes)}, ${layer.bits.toFixed(2)} bits per weight, ${error}`;
}

// A colour of the style sheet in a form that a canvas accepts.
const probe = $("summary").appendChild(el("i", { hidden: true }));
function themed(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function tip(node, text) {
  const show = (x, y) => {
    const box = $("tip");
    box.textContent = text();
    box.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = box;
    box.style.left = `${Math.max(6, Math.min(x + 14, innerWidth - width - 6))}px`;
    box.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
  };
  const hide = () => { $("tip").hidden = true; };
  node.addEventListener("pointermove", (event) => show(event.clientX, event.clientY));
  node.addEventListener("pointerleave", hide);
  node.addEventListener("focus", () => {
    if (!node.matches(":focus-visible")) return;
    const box = node.getBoundingClientRect();
    show(box.left + box.width / 2, box.bottom);
  });
  node.addEventListener("blur", hide);
}

// The tab key stops once among many items; arrow keys, Home and End move between them in the order of `items()`.
function roving(container, items) {
  const stop = (node) => {
    for (const item of container.querySelectorAll("[tabindex='0']")) item.setAttribute("tabindex", "-1");
    if (node) node.setAttribute("tabindex", "0");
  };
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    all[Math.min(Math.max(to, 0), all.length - 1)].focus();
  });
  container.addEventListener("focusin", (event) => { if (items().includes(event.target)) stop(event.target); });
  return () => stop(items()[0]);
}

function choice(fieldset, name, options, change) {
  for (const [index, [value, text]] of options.entries()) {
    const input = el("input", { type: "radio", name, value, checked: index === 0 });
    input.addEventListener("change", () => change(value));
    fieldset.append(el("label", {}, input, el("span", {}, text)));
  }
}

function facts(list) {
  return el("dl", { class: "facts" }, ...list.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

// Selection: parts register listeners, and `select` calls them all. `from` is the element that "Back" returns to.
const listeners = [];
let selected = null;
function select(index, from = null) {
  selected = index;
  for (const listener of listeners) listener(layers[index], from);
}
