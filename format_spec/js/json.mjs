// Section 3.1 of ../README.md: the text of the header. Rules H1 and H2.

import { Refused, require } from "./rules.mjs";

const MOST_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const LITERALS = [["true", true], ["false", false], ["null", null]];

// A number that was written with a fraction or an exponent. Others are JavaScript numbers, exact up to 2^53.
export class Real {
  constructor(value) { this.value = value; }
}

// Returns the object in the bytes: objects as Maps, in the order of the text.
export function parse(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes); // ignoreBOM keeps it, and it is no JSON
  } catch {
    throw new Refused("H1", "the header is not UTF-8");
  }
  const parser = new Parser(text);
  parser.space();
  require(parser.text[parser.at] === "{", "H1", "the header is not a JSON object");
  const tree = parser.value(1);
  require(/^ *$/.test(text.slice(parser.at)), "H1", "something else than spaces behind the header's object");
  require(parser.twice === null, "H2", () => `an object has the key ${JSON.stringify(parser.twice)} twice`);
  return tree;
}

class Parser {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.twice = null; // the first key that an object has twice: H1 goes first for the whole text
  }

  fault(what) {
    throw new Refused("H1", `${what} at character ${this.at} of the header`);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found !== null) this.at = pattern.lastIndex;
    return found;
  }

  space() { this.match(SPACE); }

  // Goes past a character, and white space behind it, if it is there.
  take(character) {
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    this.space();
    return true;
  }

  value(depth) {
    const first = this.text[this.at];
    if (first === '"') return this.string();
    if (first === "{" || first === "[") {
      if (depth > MOST_DEPTH) this.fault("nested more than 64 deep");
      return first === "{" ? this.object(depth) : this.array(depth);
    }
    for (const [word, value] of LITERALS) {
      if (!this.text.startsWith(word, this.at)) continue;
      this.at += word.length;
      return value;
    }
    const number = this.match(NUMBER);
    if (number === null) this.fault("no JSON value");
    const value = Number(number[0]);
    if (!Number.isFinite(value)) this.fault("a number beyond a double");
    return number[1] === undefined && number[2] === undefined ? value + 0 : new Real(value); // -0 + 0 is 0
  }

  array(depth) {
    const items = [];
    this.take("[");
    if (this.text[this.at] !== "]") {
      do {
        items.push(this.value(depth + 1));
        this.space();
      } while (this.take(","));
    }
    if (this.text[this.at] !== "]") this.fault("no , or ] in an array");
    this.at += 1;
    return items;
  }

  object(depth) {
    const entries = new Map();
    this.take("{");
    if (this.text[this.at] !== "}") {
      do {
        const key = this.string();
        this.space();
        if (!this.take(":")) this.fault("no : behind a key");
        if (entries.has(key)) this.twice ??= key;
        entries.set(key, this.value(depth + 1));
        this.space();
      } while (this.take(","));
    }
    if (this.text[this.at] !== "}") this.fault("no , or } in an object");
    this.at += 1;
    return entries;
  }

  string() {
    if (this.text[this.at] !== '"') this.fault("no string");
    this.at += 1;
    let result = this.match(PLAIN)[0];
    while (this.text[this.at] === "\\") {
      result += this.escape();
      result += this.match(PLAIN)[0];
    }
    if (this.text[this.at] !== '"') this.fault("a string without end, or with a control character");
    this.at += 1;
    if (/\p{Surrogate}/u.test(result)) this.fault("a lone surrogate before the end of a string");
    return result;
  }

  escape() {
    const letter = this.text[this.at + 1];
    if (letter === "u") {
      const digits = this.text.slice(this.at + 2, this.at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fault("an escape without four digits");
      this.at += 6;
      return String.fromCharCode(parseInt(digits, 16));
    }
    if (!Object.hasOwn(ESCAPES, letter)) this.fault("an unknown escape");
    this.at += 2;
    return ESCAPES[letter];
  }
}
