// Formats (--write) or checks (--check) every C++ and CUDA source with the pinned clang-format.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);
const root = join(import.meta.dirname, "..");
const binary = join(dirname(require.resolve("clang-format/package.json")), "index.js");
const files = ["native", "test/native"].flatMap((room) =>
  readdirSync(join(root, room), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.(cc|h|cu|cuh)$/.test(file))
    .map((file) => join(root, room, file)),
);
const mode = process.argv[2] === "--write" ? ["-i"] : ["--dry-run", "--Werror"];
try {
  execFileSync(process.execPath, [binary, ...mode, ...files], { stdio: "inherit" });
} catch {
  process.exit(1);
}
