// What the reader in JavaScript makes of a file: its tensors by name, or the rule that the file breaks.

import { Refused, hexadecimal, open } from "../../format_spec/js/reader.mjs";

export async function judge(input) {
  try {
    const file = await open(input);
    await file.checkPadding();
    const tensors = [];
    for (const name of file.names) {
      const { dtype, shape, data } = await file.tensor(name);
      tensors.push([name, { dtype, shape, data: hexadecimal(data) }]);
    }
    return { tensors };
  } catch (error) {
    if (error instanceof Refused) return { rule: error.rule };
    throw error;
  }
}
