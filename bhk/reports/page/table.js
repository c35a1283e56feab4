// The table of all layers, with search, sorting and arrow keys.

const COLUMNS = [
  { text: "Layer", kind: "text", of: (layer) => layer.name, first: 1 },
  { text: "Role", kind: "text", of: (layer) => layer.role, first: 1, extra: true },
  { text: "Shape", of: (layer) => layer.weights, show: shape, first: -1, extra: true },
  { text: "Encoding", kind: "text", of: (layer) => layer.encoding, first: 1, extra: true },
  { text: "Bits", of: (layer) => layer.bits, show: (layer) => layer.bits.toFixed(2), first: -1 },
  { text: "Ratio", of: (layer) => layer.ratio ?? 0, show: (layer) => fixed(layer.ratio, 2), first: -1, extra: true },
  { text: "SNR, dB", of: (layer) => layer.snr ?? Infinity, show: decibels, first: 1 },
  { text: "Largest error", of: (layer) => layer.max, show: (layer) => small(layer.max), first: -1, extra: true },
  { text: "Bytes", of: (layer) => layer.bytes, show: (layer) => count(layer.bytes), first: -1 },
];
const natural = new Intl.Collator("en", { numeric: true });
const classes = ({ kind, extra }) => [kind, extra && "extra"].filter(Boolean).join(" ") || null;

const rows = layers.map((layer) => {
  const name = el("button", { type: "button", tabindex: "-1", title: layer.name }, el("bdi", {}, layer.name));
  name.addEventListener("click", () => select(layer.index, name));
  const cellOf = (column, index) => index === 0
    ? el("th", { scope: "row", class: "text" }, name)
    : el("td", { class: classes(column) }, (column.show ?? column.of)(layer));
  const row = el("tr", { "aria-selected": "false" }, ...COLUMNS.map(cellOf));
  row.addEventListener("click", (event) => { if (!name.contains(event.target)) name.click(); });
  return { layer, row, name, text: [layer.name, ...layer.aliases, layer.role, layer.encoding, layer.dtype, shape(layer)].join(" ").toLowerCase() };
});
const body = el("tbody");
const heads = COLUMNS.map((column, index) => {
  const button = el("button", { type: "button" }, column.text);
  button.addEventListener("click", () => sortBy(index));
  return el("th", { scope: "col", class: classes(column), "aria-sort": "none" }, button);
});
const order = { column: null, direction: 1 };

function sortBy(index) {
  const column = COLUMNS[index];
  order.direction = order.column === index ? -order.direction : column.first;
  order.column = index;
  const compare = column.kind === "text" ? natural.compare : (a, b) => (a === b ? 0 : a - b);
  rows.sort((a, b) => order.direction * compare(column.of(a.layer), column.of(b.layer)) || a.layer.index - b.layer.index);
  heads.forEach((head, i) => head.setAttribute("aria-sort", i !== index ? "none" : order.direction > 0 ? "ascending" : "descending"));
  listRows();
}

function listRows() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = rows.filter(({ text }) => words.every((word) => text.includes(word)));
  body.replaceChildren(...found.map(({ row }) => row));
  const total = found.reduce((sum, { layer }) => sum + layer.bytes, 0);
  const smaller = data.rest.tensors ? `; this page leaves out ${count(data.rest.tensors)} smaller ones` : "";
  $("found").textContent = `${count(found.length)} of ${plural(layers.length, "layer")}, ${size(total)}${smaller}`;
  firstRow();
}

$("table").append(el("thead", {}, el("tr", {}, ...heads)), body);
const firstRow = roving(body, () => [...body.querySelectorAll("button")]);
$("search").addEventListener("input", listRows);
listRows();
listeners.push((layer) => {
  for (const { layer: other, row } of rows) row.setAttribute("aria-selected", String(other === layer));
});
