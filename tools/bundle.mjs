// Packs what runs on a GPU host that has no Node, no npm and no network: Node itself, the built package, both native
// libraries, and the tests. Result: build/voxgrad-bundle.tar.xz; unpacked, `./voxgrad`, `./test-cuda`, `./gpu-check`.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const folder = join(root, "build", "voxgrad-bundle");
const packed = `${folder}.tar.xz`;

function run(command, ...args) {
  const { status } = spawnSync(command, args, { stdio: "inherit", cwd: root });
  if (status !== 0) process.exit(status ?? 1);
}

const needed = [
  "build/Release/voxgrad.node",
  "build/cuda/voxgrad_cuda.so",
  "build/emulator/voxgrad_emulator.so",
  "dist/cli/main.js",
];
const missing = needed.filter((file) => !existsSync(join(root, file)));
if (missing.length > 0) {
  console.error(
    `missing: ${missing.join(", ")}; run npm run build, npm run build:cuda and npm run build:emulator first`,
  );
  process.exit(1);
}

/** Packages that these ones need, with themselves. */
function closure(names) {
  const found = new Set();
  const visit = (name) => {
    const manifest = join(root, "node_modules", name, "package.json");
    if (found.has(name) || !existsSync(manifest)) return;
    found.add(name);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(manifest, "utf8"));
    for (const each of Object.keys({ ...dependencies, ...optionalDependencies })) visit(each);
  };
  names.forEach(visit);
  return [...found];
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const copy = (from, to = from) =>
  cpSync(join(root, from), join(folder, to), { recursive: true, dereference: true });
for (const path of [
  ...needed.slice(0, 3),
  "dist",
  "lib",
  "test",
  "bench",
  "package.json",
  "tsconfig.json",
  "native",
  "tools/gpu-check.mjs",
])
  copy(path);
const packages = closure(["zod", "tsx", "uvu", "fast-check"]);
for (const name of packages) copy(join("node_modules", name));
mkdirSync(join(folder, "bin"));
cpSync(process.execPath, join(folder, "bin/node"));
spawnSync("strip", [join(folder, "bin/node")]);

const script = (name, line) => writeFileSync(join(folder, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
script("voxgrad", 'exec "$(dirname "$0")/bin/node" "$(dirname "$0")/dist/cli/main.js" "$@"');
script("test-cuda", 'cd "$(dirname "$0")" && exec bin/node --import tsx test/run.ts cuda/ "$@"');
script("gpu-check", 'exec "$(dirname "$0")/bin/node" "$(dirname "$0")/tools/gpu-check.mjs" "$@"');

run("tar", "-C", join(root, "build"), "-cJf", packed, "voxgrad-bundle");
console.log(`${packed}: ${(statSync(packed).size / 2 ** 20).toFixed(1)} MiB`);
