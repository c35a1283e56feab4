// Reads paths, one a line, and answers each with a line of JSON. In Node.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { judge } from "./judge.mjs";

for await (const path of createInterface({ input: process.stdin })) {
  const answer = await judge(new Uint8Array(readFileSync(path))).catch((error) => ({ error: error.stack }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
