// Verifies statements as the page does, without a page: `node verify.mjs STATIC_FOLDER NODE_URL`, claims as a JSON list on standard
// input, what became of each on standard output.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [statics, url] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(statics, name)).href);
const { Chain, httpNode } = await load("chain.js");
const { verifyStatement } = await load("verify.js");

const found = [];
for (const claim of JSON.parse(readFileSync(0, "utf8"))) {
  found.push(await verifyStatement(claim, new Chain(httpNode(url), claim.clearingHouse)));
}
console.log(JSON.stringify(found, (_, value) => (typeof value === "bigint" ? String(value) : value)));
