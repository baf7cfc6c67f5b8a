// Builds the addon with node-gyp, from a clone and from an installed package alike. Further arguments go to node-gyp.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");

/** A development install has node-gyp; npm says where its own is when it runs a script. */
function findNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
  } catch {
    const besideNode = join(dirname(process.execPath), "../lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js");
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
const jobs = String(availableParallelism());
const { status } = spawnSync(
  process.execPath,
  [nodeGyp, "configure", "build", "--jobs", jobs, ...headers, ...process.argv.slice(2)],
  { cwd: root, stdio: "inherit" },
);
process.exit(status ?? 1);
