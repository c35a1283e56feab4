// The codebook of a layer with its pairs of weights, on canvases: steps around the centre, square, shells.

function canvas(pixels, label, draw) {
  const node = el("canvas", { width: pixels, height: pixels, role: "img", "aria-label": label });
  node.redraw = () => {
    const pen = node.getContext("2d");
    pen.clearRect(0, 0, pixels, pixels);
    draw(pen, pixels, Object.fromEntries(["ink", "muted", "line", "accent", "second", "raised", "neutral"].map((name) => [name, themed(name)])));
  };
  node.redraw();
  return node;
}

function line(pen, points, colour, width, alpha = 1) {
  pen.globalAlpha = alpha;
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
  pen.globalAlpha = 1;
}

function dot(pen, x, y, radius, colour, alpha = 1) {
  pen.globalAlpha = alpha;
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
  pen.globalAlpha = 1;
}

// The steps around the centre, on their windings. The area of a disc shows how many pairs are coded as that step.
function drawWindow(pairs, windings, lattice) {
  const counts = bytes(pairs.window, Uint32Array);
  const links = pairs.links === null ? [] : Array.from(bytes(pairs.links, Int16Array), (value) => value / pairs.scales[0]);
  const { size, corner: [q0, r0] } = pairs;
  const most = Math.max(...counts, 1);
  return (pen, pixels, colours) => {
    const lean = lattice === "grid" ? 0 : 1 / windings;
    const shift = r0 * lean;
    const margin = 8, unit = (pixels - 2 * margin) / size;
    const at = (x, y) => [margin + (x - shift + 0.5 - (size * lean) / 2) * unit, pixels - margin - (y + 0.5) * unit];
    for (let q = -1; q <= size; q += 1) {
      const ends = [-1, size].map((r) => at(q + (r + r0) * lean, r));
      line(pen, ends, colours.accent, 1.4, 0.55);
    }
    for (let q = 0; q < size; q += 1) {
      for (let r = 0; r < size; r += 1) {
        const share = counts[q * size + r] / most;
        const [x, y] = at(q + (r + r0) * lean, r);
        if (share) dot(pen, x, y, Math.max(0.44 * unit * Math.sqrt(share), 2), colours.accent, 0.3);
        dot(pen, x, y, 2.4, colours.accent);
      }
    }
    for (let i = 0; i < links.length; i += 4) {
      const [x, y, q, r] = links.slice(i, i + 4);
      line(pen, [at(x, y), at(q + (r + r0) * lean, r)], colours.second, 1.2, 0.8);
      dot(pen, ...at(x, y), 2.6, colours.second);
    }
  };
}

function densityImage(pairs) {
  const levels = bytes(pairs.density, Uint8Array);
  const sheet = new OffscreenCanvas(pairs.grid, pairs.grid);
  const pen = sheet.getContext("2d");
  const image = pen.createImageData(pairs.grid, pairs.grid);
  for (let q = 0; q < pairs.grid; q += 1) {
    for (let r = 0; r < pairs.grid; r += 1) {
      const level = levels[q * pairs.grid + r];
      const at = 4 * ((pairs.grid - 1 - r) * pairs.grid + q);
      if (level) image.data.set([...viridis(level / 255), 255], at);
    }
  }
  pen.putImageData(image, 0, 0);
  return sheet;
}

// The square and the squares of the shells around it. `reach` is half the width shown, in sides of the square.
function drawSquare(pairs, codebook, reach, every) {
  const image = densityImage(pairs);
  const outliers = Array.from(bytes(pairs.outliers, Int16Array), (value) => value / pairs.scales[1]);
  const n = codebook.windings;
  return (pen, pixels, colours) => {
    const at = (x, y) => [pixels / 2 + (x / reach) * (pixels / 2), pixels / 2 - (y / reach) * (pixels / 2)];
    const [left, top] = at(-0.5, 0.5), side = pixels / 2 / reach;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(image, left, top, side, side);
    if (every) {
      for (let q = 0; q < n; q += every) line(pen, [at(q / n - 0.5, -0.5), at((codebook.lattice === "grid" ? q : q + 1) / n - 0.5, 0.5)], colours.muted, 1, 0.45);
    }
    for (const scale of codebook.scales.slice(1)) {
      pen.strokeStyle = colours.muted;
      pen.lineWidth = 1.4;
      pen.strokeRect(...at(-scale / 2, scale / 2), side * scale, side * scale);
    }
    pen.strokeStyle = colours.accent;
    pen.lineWidth = 2.4;
    pen.strokeRect(left, top, side, side);
    for (let i = 0; i < outliers.length; i += 2) dot(pen, ...at(outliers[i], outliers[i + 1]), 3.2, colours.second, 0.9);
  };
}

function codebookFigures(layer) {
  const { codebook, sketch: { pairs, sampled } } = layer;
  const n = codebook.windings;
  const every = Math.max(Math.round(n / 32), 1);
  const share = (200 * pairs.outside) / sampled;
  const windows = el("figure", {},
    canvas(640, `${pairs.size} by ${pairs.size} steps of the trajectory around the centre, with the pairs coded as them`, drawWindow(pairs, n, codebook.lattice)),
    el("figcaption", {}, `${pairs.size} × ${pairs.size} steps around the centre. Lines: windings, upwards. Discs: number of pairs coded as a step.`
      + (pairs.links === null ? "" : " Dots: original pairs, each joined to its step.")));
  const square = el("figure", {},
    canvas(640, `Density of the pairs in the square of ${n} windings`, drawSquare(pairs, codebook, 0.54, every)),
    el("figcaption", {}, `The square, ${n} windings of ${n} steps each${every > 1 ? ` (one in ${every} drawn)` : ""}. Colour: density of the pairs, on a logarithmic scale.`));
  const parts = [windows, square];
  if (codebook.shells) {
    const reach = (codebook.scales.at(-1) / 2) * 1.06;
    parts.push(el("figure", {},
      canvas(640, `The square and ${plural(codebook.shells, "shell")} around it, with outliers`, drawSquare(pairs, codebook, reach, 0)),
      el("figcaption", {}, `${plural(codebook.shells, "shell")}, up to ${fixed(codebook.scales.at(-1), 1)} times coarser. Dots: outliers, ${share.toFixed(share < 0.1 ? 3 : 2)} % of the sampled pairs.`)));
  }
  return el("div", { class: "two" }, ...parts);
}
