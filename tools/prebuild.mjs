// Builds the addon and puts it where the packed tarball carries it: prebuilds/<platform>-<arch>/voxgrad.node.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const { status } = spawnSync(process.execPath, [join(root, "tools/build-native.mjs")], { stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);
const folder = join(root, "prebuilds", `${process.platform}-${process.arch}`);
mkdirSync(folder, { recursive: true });
copyFileSync(join(root, "build/Release/voxgrad.node"), join(folder, "voxgrad.node"));
