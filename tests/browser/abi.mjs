// The ABI that the browser uses, to be compared with the contracts': `node abi.mjs STATIC_FOLDER`.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { ABI } = await import(pathToFileURL(join(process.argv[2], "abi.js")).href);

const type = (item) => item.format("sighash");
const shape = (items) =>
  items.map((item) => [item.name, type(item), item.indexed === true, shape(item.components ?? [])]);

const found = {};
for (const [contract, abi] of Object.entries(ABI)) {
  found[contract] = {};
  for (const entry of abi.fragments) {
    found[contract][`${entry.type} ${entry.format("sighash")}`] = {
      inputs: shape(entry.inputs),
      outputs: (entry.outputs ?? []).map(type),
    };
  }
}
console.log(JSON.stringify(found));
