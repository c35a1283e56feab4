// The page: opens what is dropped, chosen or named, draws it, and checks it. `draw` comes from bhk/reports/page.

import { Refused, hexadecimal, open } from "../../format_spec/js/reader.mjs";
import { addressOf } from "./address.mjs";
import { denseBytes, pageData, shown } from "./data.mjs";
import { sketchOf } from "./sketch.mjs";

const DIGEST_LIMIT = 2 ** 30; // bytes of a file whose SHA-256 as a whole is told: it is computed in one piece
const DENSE_LIMIT = 2 ** 30, DENSE_RATIO = 256; // bytes that a file may stand for, or times its size, to be checked as a whole
const PART = 2 ** 24; // bytes of a download at a time
const PAUSE_MS = 50; // between breaks in which the page answers
const find = (id) => document.getElementById(id);
let turn = 0; // grows with each file, so that work on the one before stops

// --------------------------------------------------------------------------------------------------------------- Opening

async function show(name, input) {
  const mine = turn += 1;
  say("Reading the header …");
  find("title").textContent = shown(name);
  find("subtitle").textContent = "";
  find("report").replaceChildren();
  find("check").hidden = true;
  try {
    const file = await open(input);
    const digest = input instanceof Blob && input.size <= DIGEST_LIMIT ? await digestOf(input) : null;
    if (mine !== turn) return;
    drawFile(file, name, digest);
    if (input instanceof Blob) await check(file, mine);
    else offerCheck(file, mine);
  } catch (error) {
    if (mine === turn) sayError(error);
  }
}

async function digestOf(blob) {
  return hexadecimal(new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer())));
}

function drawFile(file, name, digest) {
  const { data, drawn } = pageData(file, name, digest);
  document.title = `${data.file.name} – bhk viewer`;
  find("report").replaceChildren(find("drawing").content.cloneNode(true));
  draw(data, async (index) => {
    try {
      return sketchOf(drawn[index], file.codebook(drawn[index]), await file.tensor(drawn[index].name));
    } catch (error) {
      throw new Error(described(error));
    }
  });
}

// -------------------------------------------------------------------------------------------------------------- Checking

// Steps 8 and 9 of section 9 of the specification, with breaks.
async function check(file, mine) {
  const { layers } = file.header;
  const dense = layers.reduce((sum, layer) => sum + denseBytes(layer), 0);
  if (dense > Math.max(DENSE_LIMIT, DENSE_RATIO * file.length)) throw new RangeError(`the file stands for ${dense} bytes, more than ${DENSE_RATIO} times its size`);
  const progress = find("progress");
  Object.assign(progress, { value: 0, max: layers.length, hidden: false });
  try {
    say("Checking …");
    await file.checkPadding();
    let pause = performance.now() + PAUSE_MS;
    for (const [index, { name }] of layers.entries()) {
      await file.tensor(name);
      if (performance.now() < pause) continue;
      await new Promise((resume) => { setTimeout(resume); });
      if (mine !== turn) return;
      progress.value = index + 1;
      say(`Checking … ${index + 1} of ${layers.length} tensors`);
      pause = performance.now() + PAUSE_MS;
    }
    const streams = layers.reduce((sum, layer) => sum + layer.streams.length, 0);
    if (mine === turn) say(`Sound: every rule of the format holds. The header and all ${streams} streams match their SHA-256, and every code is in range.`, "sound");
  } finally {
    if (mine === turn) progress.hidden = true;
  }
}

// Of a remote file, only what is drawn has been fetched.
function offerCheck(file, mine) {
  say("The header is sound. Layers are fetched, checked and decoded when they are selected.");
  const button = find("check");
  button.hidden = false;
  button.textContent = `Download and check all ${(file.length / 1e6).toFixed(1)} MB`;
  button.onclick = async () => {
    button.hidden = true;
    try {
      const parts = [];
      for (let at = 0; at < file.length; at += PART) {
        say(`Downloading … ${Math.round((100 * at) / file.length)} %`);
        parts.push(new Blob([await file.read(at, Math.min(PART, file.length - at))]));
        if (mine !== turn) return;
      }
      await check(await open(new Blob(parts)), mine);
    } catch (error) {
      if (mine === turn) sayError(error);
    }
  };
}

// ---------------------------------------------------------------------------------------------------------------- Telling

function say(text, kind = "") {
  find("status").textContent = text;
  find("status").className = kind;
}

const described = (error) => shown(error instanceof Refused ? `Refused, rule ${error.message}` : `Not read: ${error.message}`);

function sayError(error) {
  say(described(error), "refused");
}

// ------------------------------------------------------------------------------------------------------------------ Events

// From the first file on, the browser itself forbids this page every connection.
function seal() {
  if (find("address").disabled) return;
  document.head.append(Object.assign(document.createElement("meta"), { httpEquiv: "Content-Security-Policy", content: "connect-src 'none'" }));
  for (const id of ["address", "open"]) find(id).disabled = true;
  find("connections").textContent = "You opened a file, so this page can no longer connect to anything. Reload it to open an address.";
}

function openFiles(files) {
  if (files.length === 0) return;
  seal();
  show(files[0].name, files[0]);
}

find("file").addEventListener("change", (event) => openFiles(event.target.files));
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    find("place").classList.toggle("over", over);
    if (name === "drop") openFiles(event.dataTransfer.files);
  });
}
find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    const address = addressOf(find("address").value);
    show(decodeURIComponent(new URL(address).pathname.split("/").at(-1)) || address, address);
  } catch (error) {
    sayError(error);
  }
});
