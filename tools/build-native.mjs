// Builds the addon with node-gyp, from a clone and from an installed package alike:
// build-native.mjs [FOLDER [GYP OPTION...]], where FOLDER holds binding.gyp; default: the package.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");

/** A development install has node-gyp; npm says where its own is when it runs a script. */
function findNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
  } catch {
    const besideNode = join(
      dirname(process.execPath),
      "../lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js",
    );
    const candidates = [process.env.npm_config_node_gyp, besideNode];
    return candidates.find((path) => path !== undefined && existsSync(path));
  }
}

const nodeGyp = findNodeGyp();
if (nodeGyp === undefined) {
  console.error(`no node-gyp found: run this through npm, as npm --prefix "${root}" run build:native`);
  process.exit(1);
}
// Headers that lie beside node spare the download that node-gyp would make.
const prefix = join(dirname(process.execPath), "..");
const headers = existsSync(join(prefix, "include/node/node_api.h")) ? [`--nodedir=${prefix}`] : [];
const [folder = root, ...gypOptions] = process.argv.slice(2);
for (const args of [
  ["configure", ...headers, "--", ...gypOptions],
  ["build", "--jobs", String(availableParallelism())],
]) {
  const { status } = spawnSync(process.execPath, [nodeGyp, ...args], {
    cwd: resolve(folder),
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}
