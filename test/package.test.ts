/** The tarball as another app meets it: packed, installed offline without install scripts, imported, type-checked. */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { test } from "uvu";
import * as assert from "uvu/assert";

const root = join(import.meta.dirname, "..");
const temporary = mkdtempSync(join(tmpdir(), "voxgrad-package-"));
const stage = join(temporary, "stage");
const app = join(temporary, "app");
const installed = join(app, "node_modules", "voxgrad");
const addon = process.env.VOXGRAD_ADDON ?? join(root, "build", "Release", "voxgrad.node");

// As an app's own process would have it: nothing of this run, no cache, no registry.
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|VOXGRAD_|NODE_OPTIONS|LD_PRELOAD)/i.test(name)),
);

function npm(cwd: string, ...args: string[]): string {
  const cache = ["--cache", join(temporary, "cache")];
  return execFileSync("npm", [...args, ...cache], { cwd, env: environment, encoding: "utf8", stdio: "pipe" });
}

function node(cwd: string, ...args: string[]) {
  return spawnSync(process.execPath, args, { cwd, env: environment, encoding: "utf8" });
}

const tsc = join(root, "node_modules", "typescript", "bin", "tsc");

test.before(() => {
  assert.ok(existsSync(addon), `${addon} is not there: npm run build:native makes it`);
  for (const name of [
    "package.json",
    "README.md",
    "LICENSE",
    "binding.gyp",
    "native",
    "tools",
    "docs",
    "examples",
    "bench",
  ])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(stage, name), { recursive: true });
  for (const name of ["node-addon-api", "zod"])
    cpSync(join(root, "node_modules", name), join(stage, "node_modules", name), { recursive: true });
  const prebuilds = join(stage, "prebuilds", `${process.platform}-${process.arch}`);
  mkdirSync(prebuilds, { recursive: true });
  cpSync(addon, join(prebuilds, "voxgrad.node"));
  const built = node(root, tsc, "-p", "tsconfig.build.json", "--outDir", join(stage, "dist"));
  assert.is(built.status, 0, built.stdout);

  npm(stage, "pack", "--ignore-scripts", "--pack-destination", temporary);
  mkdirSync(app);
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  npm(app, "install", "--offline", "--ignore-scripts", join(temporary, `voxgrad-${version}.tgz`));
});

test.after(() => rmSync(temporary, { recursive: true, force: true }));

test("publint finds nothing to say", async () => {
  const { messages, pkg } = await publint({ pkgDir: stage, strict: true, pack: false });
  assert.equal(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  );
});

test("the tarball carries what is used and what builds, and no more", () => {
  for (const name of [
    "dist/index.js",
    "dist/index.d.ts",
    "dist/cli/main.js",
    "binding.gyp",
    "native/core/plan.cc",
  ])
    assert.ok(existsSync(join(installed, name)), `${name} is missing`);
  for (const name of [
    "tools/build-native.mjs",
    "tools/sources.mjs",
    "node_modules/node-addon-api/napi.h",
    "LICENSE",
    "bench/README.md",
    "bench/peers/torch_peer.py",
    "bench/shapes/vnet.txt",
  ])
    assert.ok(existsSync(join(installed, name)), `${name} is missing`);
  for (const name of ["test", "lib", "build", "bench/evidence", "bench/RESULTS.md", ".ci"])
    assert.not.ok(existsSync(join(installed, name)), `${name} does not belong there`);
});

test("a convolution runs in the fresh app, and the command is there", () => {
  writeFileSync(
    join(app, "conv.mjs"),
    `import { conv3d } from "voxgrad";
    const ones = { data: new Float32Array(27).fill(1), shape: [1, 3, 3, 3, 1] };
    const y = await conv3d(ones, ones, { padding: 1 });
    console.log(JSON.stringify([y.shape, y.data[0], y.data[13]]));`,
  );
  const { stdout, stderr } = node(app, "conv.mjs");
  assert.is(stdout.trim(), "[[1,3,3,3,1],8,27]", stderr);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const command = node(app, join(app, "node_modules", ".bin", "voxgrad"), "--version");
  assert.is(command.stdout.trim(), version, command.stderr);
});

test("its types hold in a strict TypeScript app", () => {
  writeFileSync(
    join(app, "conv.ts"),
    `import { conv3d, type Tensor } from "voxgrad";
    const ones: Tensor<Float32Array> = { data: new Float32Array(27).fill(1), shape: [1, 3, 3, 3, 1] };
    export const y: Promise<Tensor<Float32Array>> = conv3d(ones, ones, { padding: 1 });
    // @ts-expect-error a string is no padding
    export const z = conv3d(ones, ones, { padding: "1" });`,
  );
  // The app has no types of Node, and the libraries of its target alone.
  const flags = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022"];
  const { status, stdout } = node(app, tsc, ...flags, "conv.ts");
  assert.is(status, 0, stdout);
});

test("without a fitting addon the error names the one command that builds it", () => {
  rmSync(join(installed, "prebuilds"), { recursive: true });
  const { status, stderr } = node(app, "conv.mjs");
  assert.is(status, 1);
  const [, prefix, script] = /npm --prefix "(.+)" run (\S+)/.exec(stderr) ?? [];
  assert.is(prefix, installed, stderr);
  const { scripts } = JSON.parse(readFileSync(join(prefix, "package.json"), "utf8")) as {
    scripts: Record<string, string>;
  };
  assert.is(scripts[script], "node tools/build-native.mjs");
});

test.run();
