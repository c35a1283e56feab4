// node format_spec/js/validate.mjs FILE-OR-ADDRESS…   prints a line for each: sound, or the rule that it breaks. Exit 1 if one is not.

import { openAsBlob } from "node:fs";
import { validate } from "./reader.mjs";

const shown = (text) => text.replace(/[\p{C}\u2028\u2029]/gu, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);

for (const name of process.argv.slice(2)) {
  try {
    await validate(/^https?:\/\//.test(name) ? name : await openAsBlob(name));
    console.log(`${shown(name)}: sound`);
  } catch (error) {
    console.log(shown(`${name}: ${error.message}`));
    process.exitCode = 1;
  }
}
