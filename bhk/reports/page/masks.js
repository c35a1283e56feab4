// Masks of the original and of the file on one picture, with a slider between them that arrow keys move as well.

const MASK_COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2"];

function slider(picture) {
  const image = (source, text, kind) => el("img", { src: source, alt: text, class: kind, width: picture.width, height: picture.height, draggable: "false" });
  const over = image(picture.original, `${picture.name}: masks of the original`, "over");
  const under = image(picture.compressed, `${picture.name}: masks of the compressed model`, null);
  const spots = image(picture.difference, "", "spots");
  spots.hidden = true;
  const edge = el("div", { class: "edge" });
  const range = el("input", { type: "range", min: 0, max: 100, value: 50, step: 1, "aria-label": `${picture.name}: share of the picture that shows the original` });
  const move = () => {
    over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    edge.style.left = `${range.value}%`;
    range.setAttribute("aria-valuetext", `original ${range.value} %, compressed ${100 - range.value} %`);
  };
  const follow = (event) => {
    const box = range.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    move();
  };
  range.addEventListener("input", move);
  // The thumb of a range input lags behind the pointer by up to half its width; this puts the edge at the pointer.
  range.addEventListener("pointerdown", (event) => { range.setPointerCapture(event.pointerId); follow(event); event.preventDefault(); range.focus({ focusVisible: false }); });
  range.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  move();
  const holder = el("div", { class: "compare" }, under, over, spots, edge,
    el("span", { class: "tag l", "aria-hidden": "true" }, "original"), el("span", { class: "tag r", "aria-hidden": "true" }, "compressed"), range);
  return { holder, spots };
}

function maskTable(picture) {
  const body = picture.masks.map((mask, i) => {
    const colour = el("i", { class: "swatch", "aria-hidden": "true" });
    colour.style.background = MASK_COLOURS[i % MASK_COLOURS.length];
    return el("tr", {}, el("th", { scope: "row", class: "text" }, colour, mask.prompt), el("td", {}, mask.iou.toFixed(4)),
      el("td", {}, `${fixed(mask.scores[0], 3)} → ${fixed(mask.scores[1], 3)}`));
  });
  const head = el("tr", {}, el("th", { scope: "col", class: "text" }, "Prompt"), el("th", { scope: "col" }, "IoU"), el("th", { scope: "col" }, "Predicted IoU"));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...body));
}

const meanIou = (masks) => masks.reduce((sum, mask) => sum + mask.iou, 0) / masks.length;

function showPictures() {
  const every = data.pictures.flatMap((picture) => picture.masks);
  $("pictures").hidden = false;
  $("pictures-note").textContent = `Masks of ${data.original} and of the compressed model for the same prompts: mean IoU ${meanIou(every).toFixed(4)} `
    + `over ${plural(every.length, "mask")} on ${plural(data.pictures.length, "picture")}. The IoU compares the two models with each other, not with annotations. Drag the edge, or move it with the arrow keys.`;
  for (const picture of data.pictures) {
    const { holder, spots } = slider(picture);
    const box = el("input", { type: "checkbox" });
    box.addEventListener("change", () => { spots.hidden = !box.checked; });
    const side = el("div", {}, el("h3", {}, picture.name),
      el("p", { class: "note" }, `Mean IoU ${meanIou(picture.masks).toFixed(4)}`),
      maskTable(picture), el("p", {}, el("label", {}, box, " Show where the masks differ")));
    $("picture-list").append(el("div", { class: "picture" }, holder, side));
  }
}

if (data.pictures.length) showPictures();
