import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { preprocess, readImage, readLabels, writePhantom } from "../../lib/data/index.ts";
import { decodeModel, metadataOf } from "../interchange/onnx_file.ts";
import { loadRuntime } from "../oracle/onnx.ts";
import { scratch, tiny, voxgrad } from "./harness.ts";

const runtime = await loadRuntime();
const root = scratch();
const data = join(root, "data");
await writePhantom(data, { cases: 3, labeled: 2, test: 1, size: [32, 16, 16], seed: 3 });
const run = join(root, "run");
const trained = await voxgrad([
  ...["train", "sdnet", "--data", data, "--out", run, "--steps", "6"],
  ...["--set", "window=[-100,300]", "--set", "normalize=unit", ...tiny],
]);
if (trained.status !== 0) throw new Error(trained.err);

test("a model segments as predict does when its metadata are followed", async () => {
  const model = join(root, "new", "run.onnx");
  const { status, out, err } = await voxgrad(["export", "--run", run, "--out", model]);
  assert.is(err, "");
  assert.is(status, 0);
  assert.match(out, /networks {2}vnet and resvnet after 6 steps\nimage {5}\[N, C, D, H, W\]/);
  assert.match(out, /run\.onnx {2}[\d.]+ [KM]iB, opset 17\n/);
  assert.equal(readdirSync(join(root, "new")), ["run.onnx"]);
  const decoded = decodeModel(readFileSync(model));
  assert.is(decoded.producerVersion, "1.2.3");
  const metadata = metadataOf(decoded);
  assert.equal(metadata, {
    "voxgrad.networks": '["vnet","resvnet"]',
    "voxgrad.classes": "2",
    "voxgrad.divisor": "[16,16,16]",
    "voxgrad.recipe": "sdnet",
    "voxgrad.steps": "6",
    "voxgrad.patch": "[16,16,16]",
    "voxgrad.window": "[-100,300]",
    "voxgrad.normalize": "unit",
    "voxgrad.orientation": "file",
  });
  if (typeof runtime === "string") return;

  const path = join(data, "imagesTs", readdirSync(join(data, "imagesTs"))[0]);
  const predicted = join(root, "predicted.nii");
  await voxgrad(["predict", "--run", run, "--input", path, "--out", predicted, "--patch", "whole"]);
  const expected = (await readLabels(predicted)).data;
  const window = JSON.parse(metadata["voxgrad.window"]) as [number, number];
  const image = preprocess(await readImage(path), { window, normalize: "unit" });
  const [x, y, z] = image.size;
  const session = await runtime.InferenceSession.create(model, { intraOpNumThreads: 1 });
  const { probabilities } = await session.run({
    image: new runtime.Tensor("float32", image.data, [1, 1, z, y, x]),
  });
  await session.release();
  const values = probabilities.data as Float32Array;
  const wrong = expected.filter((label, voxel) => {
    const difference = values[voxel + expected.length] - values[voxel];
    return Math.abs(difference) > 1e-5 && label !== (difference > 0 ? 1 : 0);
  });
  assert.is(wrong.length, 0);
});

test("one network, and the best weights, make another model", async () => {
  const bytes = async (...options: string[]) => {
    const path = join(root, "variant.onnx");
    const { status, err } = await voxgrad(["export", "--run", run, "--out", path, ...options]);
    assert.is(status, 0, err);
    return readFileSync(path);
  };
  const variants = await Promise.all([
    bytes("--network", "vnet"),
    bytes("--network", "resvnet", "--opset", "20"),
  ]);
  assert.ok(variants[0].length < variants[1].length);
  assert.is(Number(decodeModel(variants[1]).opsetImport[0].version), 20);
});

test("what cannot be exported is refused before a file is made", async () => {
  const out = join(root, "refused.onnx");
  const cases: [string[], number, RegExp][] = [
    [["--run", run, "--out", join(root, "model.pb")], 2, /name ends in \.onnx, found .*model\.pb/],
    [
      ["--run", run, "--out", out, "--network", "vnett"],
      2,
      /this run has all, vnet, resvnet; did you mean vnet\?/,
    ],
    [["--run", run, "--out", out, "--opset", "9"], 2, /from 15 to 22, found 9/],
    [["--run", join(root, "none"), "--out", out], 1, /there is no run in this folder/],
  ];
  for (const [argv, status, message] of cases) {
    const outcome = await voxgrad(["export", ...argv]);
    assert.is(outcome.status, status);
    assert.match(outcome.err, message);
  }
  assert.not(existsSync(out));
  mkdirSync(join(root, "folder.onnx"));
  const folder = await voxgrad(["export", "--run", run, "--out", join(root, "folder.onnx")]);
  assert.is(folder.status, 2);
});

test.run();
