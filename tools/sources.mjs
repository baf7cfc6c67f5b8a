// Lists the C++ sources for binding.gyp: `isa` those compiled once per instruction set, `plain` all others.
import { readdirSync } from "node:fs";
import { join } from "node:path";

const perIsa = /_kernels\.cc$/;
const root = join(import.meta.dirname, "..");
const wanted = process.argv[2] === "isa";
for (const folder of ["core", "cpu", "binding"]) {
  for (const file of readdirSync(join(root, "native", folder)).sort()) {
    if (file.endsWith(".cc") && perIsa.test(file) === wanted) console.log(`native/${folder}/${file}`);
  }
}
