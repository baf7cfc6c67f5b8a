import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { commands } from "../../lib/cli/commands/index.ts";
import { scratch, voxgrad } from "./harness.ts";

const root = scratch();

interface Summary {
  parameters: number;
  flops: number;
  peakMemory: number;
  trainingPeakMemory: number;
  layers: { path: string; op: string; outputShape: number[]; parameters: number; flops: number }[];
}

test("every command explains itself with examples", async () => {
  for (const { name } of commands) {
    const { status, out } = await voxgrad([name, "--help"]);
    assert.is(status, 0);
    assert.match(out, /Examples\n {2}voxgrad /);
  }
});

test("summary of the networks at the size of the paper", async () => {
  for (const [model, parameters] of [["vnet", 9_448_866] as const, ["resvnet", 17_930_354] as const]) {
    const { status, out } = await voxgrad(["summary", model, "--patch", "112x112x80", "--json"]);
    assert.is(status, 0);
    const summary = JSON.parse(out) as Summary;
    assert.is(summary.parameters, parameters);
    const sum = (name: "parameters" | "flops") =>
      summary.layers.reduce((total, layer) => total + layer[name], 0);
    assert.is(sum("parameters"), parameters);
    assert.is(sum("flops"), summary.flops);
    assert.equal(summary.layers[summary.layers.length - 1].outputShape, [1, 80, 112, 112, 2]);
    const image = 4 * 112 * 112 * 80;
    assert.ok(summary.peakMemory > 32 * image && summary.trainingPeakMemory > 1.4 * summary.peakMemory);
  }
});

test("summary for people, and of more than any memory", async () => {
  const small = await voxgrad([
    "summary",
    "vnet",
    "--patch",
    "16x32x48",
    "--base-channels",
    "2",
    "--classes",
    "5",
  ]);
  assert.match(small.out, /vnet\.blocks\.0\.layers\.0\.conv +conv3d +1 x 48 x 32 x 16 x 2 +56 /);
  assert.match(small.out, /training +[\d.]+ GFLOP a step, peak memory [\d.]+ MiB/);
  const huge = await voxgrad(["summary", "vnet", "--patch", "1024x1024x1024"]);
  assert.is(huge.status, 0);
  assert.match(huge.out, /training .* peak memory \d+ GiB/);
  const slice = await voxgrad(["summary", "deeplabv3plus", "--patch", "64x64x1"]);
  assert.is(slice.status, 0);
  assert.match(
    slice.out,
    /inference .*\ntraining +not so: .*at least two values of each channel.*take a larger batch/,
  );
  const wrong = await voxgrad(["summary", "vnet", "--patch", "50x50x50"]);
  assert.is(wrong.status, 1);
  assert.match(wrong.err, /multiples of 16/);
});

test("phantom makes the cohort that was asked for and spoils nothing", async () => {
  const out = join(root, "phantoms");
  const argv = [
    "phantom",
    "--out",
    out,
    "--cases",
    "2",
    "--labeled",
    "1",
    "--test",
    "1",
    "--size",
    "20x16x16",
  ];
  const made = await voxgrad(argv);
  assert.is(made.status, 0);
  const count = (folder: string) => readdirSync(join(out, folder)).length;
  assert.equal(["images", "labels", "imagesTs", "labelsTs"].map(count), [2, 1, 1, 1]);
  const again = await voxgrad(argv);
  assert.is(again.status, 1);
  assert.match(again.err, /found files in it/);
  const small = await voxgrad(["phantom", "--out", join(root, "small"), "--size", "8x8x8"]);
  assert.is(small.status, 2);
  const surplus = await voxgrad(["phantom", "--out", join(root, "surplus"), "--labeled", "13"]);
  assert.is(surplus.status, 2);
});

test("doctor finds a sound machine", async () => {
  const { status, out } = await voxgrad(["doctor"]);
  assert.is(status, 0, out);
  assert.match(out, /self-test +ok +convolution agrees with a plain loop.*GFLOP\/s/);
});

test("doctor names a library that is asked for in vain, and takes no other", () => {
  const main = join(import.meta.dirname, "..", "..", "lib", "cli", "main.ts");
  const missing = join(root, "missing.node");
  const doctor = (variable: string) =>
    spawnSync(process.execPath, ["--import", "tsx", main, "doctor"], {
      env: { ...process.env, [variable]: missing },
      encoding: "utf8",
    });
  const addon = doctor("VOXGRAD_ADDON");
  assert.is(addon.status, 1, addon.stdout);
  assert.match(addon.stdout, `${missing}: not there`);
  assert.match(addon.stdout, "VOXGRAD_ADDON names this file");
  const cuda = doctor("VOXGRAD_CUDA");
  assert.is(cuda.status, 0, cuda.stdout);
  assert.match(cuda.stdout, new RegExp(`cuda +not used: ${missing}: `));
});

test("the demo compares both recipes and replaces only itself", async () => {
  const out = join(root, "demo");
  const argv = ["demo", "--quick", "--steps", "2", "--out", out];
  const first = await voxgrad(argv);
  assert.is(first.status, 0, first.err);
  assert.match(first.out, /\nsupervised +both +\d/);
  assert.match(first.out, /\nsdnet +vnet +\d/);
  assert.match(first.out, /One seed on a handful of phantoms proves nothing/);
  const html = readFileSync(join(out, "report.html"), "utf8");
  assert.match(html, /sdnet resvnet/);
  assert.is(html.split("<article>").length - 1, 4);
  assert.is(readdirSync(join(out, "predictions", "sdnet")).length, 2);

  writeFileSync(join(out, "notes.txt"), "mine");
  const stopped = await voxgrad(argv, "step 2/2");
  assert.is(stopped.status, 130);
  assert.ok(existsSync(join(out, "notes.txt")));
  assert.not(existsSync(join(out, "report.html")));

  const other = join(root, "other");
  mkdirSync(other);
  writeFileSync(join(other, "notes.txt"), "mine");
  const refused = await voxgrad(["demo", "--quick", "--out", other]);
  assert.is(refused.status, 2);
  assert.equal(readdirSync(other), ["notes.txt"]);
});

test.run();
