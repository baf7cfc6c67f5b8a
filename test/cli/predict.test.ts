import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readHeader, readLabels, writeLabels } from "../../lib/data/index.ts";
import { makeCohort, scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
const data = await makeCohort(join(root, "data"));
// Half of each volume is foreground, so that networks that have hardly learnt anything predict some of both classes.
for (const name of readdirSync(join(data, "labels"))) {
  const path = join(data, "labels", name);
  const labels = await readLabels(path);
  await writeLabels(path, { ...labels, data: labels.data.map((_, index) => (index % 20 < 10 ? 0 : 1)) });
}
const images = join(data, "imagesTs");
const image = join(images, "phantom-004.nii.gz");
const run = join(root, "run");
const trained = await voxgrad([
  "train",
  "sdnet",
  "--data",
  data,
  "--out",
  run,
  "--steps",
  "12",
  "--set",
  "learningRate=0.02",
  ...tiny,
]);
if (trained.status !== 0) throw new Error(trained.err);

const labels = async (path: string) => (await readLabels(path)).data;

test("a folder of images becomes a folder of label maps that lie where the images do", async () => {
  const out = join(root, "all");
  const { status, err } = await voxgrad(["predict", "--run", run, "--input", images, "--out", out]);
  assert.is(err, "");
  assert.is(status, 0);
  assert.equal(readdirSync(out).sort(), ["phantom-004.nii.gz", "phantom-005.nii.gz"]);
  const [before, after] = await Promise.all([readHeader(image), readHeader(join(out, "phantom-004.nii.gz"))]);
  assert.equal(after.size, before.size);
  assert.equal(after.geometry.affine, before.geometry.affine);
  assert.is(after.type, "uint8");
});

test("one image, by a checkpoint file, one network, the whole volume at once", async () => {
  const out = join(root, "one", "organs.nii");
  const checkpoint = join(run, "best.safetensors");
  const argv = [
    "predict",
    "--checkpoint",
    checkpoint,
    "--input",
    image,
    "--out",
    out,
    "--network",
    "resvnet",
  ];
  const { status, out: said } = await voxgrad([...argv, "--patch", "whole"]);
  assert.is(status, 0);
  assert.match(said, /networks {2}resvnet after \d+ steps/);
  assert.is((await labels(out)).length, 20 * 18 * 16);
});

test("networks, windows and norm statistics make a difference", async () => {
  const variants: Record<string, string[]> = {
    vnet: ["--network", "vnet"],
    resvnet: ["--network", "resvnet"],
    input: ["--network", "vnet", "--reestimate-norm", "2"],
    own: ["--network", "vnet", "--reestimate-norm", "2", "--reestimate-from", "unlabeled"],
    folder: ["--network", "vnet", "--reestimate-norm", "2", "--reestimate-from", join(data, "images")],
  };
  const maps = new Map<string, string>();
  for (const [name, more] of Object.entries(variants)) {
    const out = join(root, `${name}.nii`);
    const { status, err } = await voxgrad(["predict", "--run", run, "--input", image, "--out", out, ...more]);
    assert.is(status, 0, err);
    maps.set(name, Buffer.from(await labels(out)).toString("base64"));
  }
  assert.is(new Set(maps.values()).size, 5);
});

test("one bad file does not stop the others and is listed", async () => {
  const mixed = join(root, "mixed");
  mkdirSync(mixed);
  copyFileSync(image, join(mixed, "good_0000.nii.gz"));
  writeFileSync(join(mixed, "bad_0000.nii"), "no image");
  const out = join(root, "mixed-out");
  const { status, err } = await voxgrad(["predict", "--run", run, "--input", mixed, "--out", out]);
  assert.is(status, 1);
  assert.match(err, /failed: .*bad_0000\.nii: /);
  assert.match(err, /1 of 2 failed: .*bad_0000\.nii\n$/);
  assert.equal(readdirSync(out), ["good.nii.gz"]);
});

test("Ctrl-C leaves complete label maps only", async () => {
  const out = join(root, "stopped");
  const argv = ["predict", "--run", run, "--input", images, "--out", out];
  const { status, out: said } = await voxgrad(argv, "phantom-004 (1 of 2)");
  assert.is(status, 130);
  assert.match(said, /stopped/);
  assert.equal(readdirSync(out), ["phantom-004.nii.gz"]);
});

test("what cannot be meant is refused", async () => {
  const base = ["predict", "--run", run, "--input", image, "--out", join(root, "x.nii")];
  const refuse = async (argv: string[], expected: RegExp, expectedStatus = 2) => {
    const { status, err } = await voxgrad(argv);
    assert.is(status, expectedStatus, err);
    assert.match(err, expected);
  };
  await refuse([...base, "--network", "vmet"], /did you mean vnet/);
  await refuse([...base, "--patch", "20x16x16"], /multiples of 16/);
  await refuse([...base, "--patch", "16x16"], /three positive whole numbers/);
  await refuse([...base, "--overlap", "1"], /--overlap must lie between/);
  await refuse([...base, "--checkpoint", "x"], /exactly one of --run RUN and --checkpoint FILE/);
  await refuse([...base, "--reestimate-from", "input"], /needs --reestimate-norm/);
  await refuse(["predict", "--run", run, "--input", image, "--out", image], /would overwrite the image/);
  await refuse(["predict", "--run", run, "--input", images, "--out", images], /is the folder of the images/);
  await refuse(["predict", "--run", run, "--input", images, "--out", "x.nii"], /--out must be one too/);
  await refuse(["predict", "--run", run, "--input", join(root, "no"), "--out", "x.nii"], /found nothing/, 1);
  await refuse(["predict", "--run", run, "--input", data, "--out", "x"], /images\/ and labels\//, 1);
  await refuse(
    ["predict", "--run", data, "--input", image, "--out", "x"],
    /there is no run in this folder/,
    1,
  );
  assert.not(existsSync(join(root, "x.nii")));
});

test.run();
