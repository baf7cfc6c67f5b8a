import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readHeader, readLabels, writeLabels } from "../../lib/data/index.ts";
import { type ComponentOptions, removeComponents } from "../../lib/infer/components.ts";
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

test("a run is predicted in its own precision where the device has it", async () => {
  const own = join(root, "bf16");
  cpSync(run, own, { recursive: true });
  const path = join(own, "config.json");
  const description = JSON.parse(readFileSync(path, "utf8")) as { config: object };
  writeFileSync(
    path,
    JSON.stringify({ ...description, config: { ...description.config, precision: "bf16" } }),
  );
  const said = async (...argv: string[]) => {
    const out = join(root, "bf16.nii.gz");
    const all = ["predict", "--run", own, "--input", image, "--out", out, "--network", "vnet", ...argv];
    const result = await voxgrad(all);
    assert.is(result.status, 0, result.err);
    return result.out;
  };
  assert.not.match(await said("--device", "cpu"), /convolutions in/);
  assert.match(await said("--device", "emulator"), /convolutions in bf16/);
  assert.match(await said("--device", "emulator", "--precision", "tf32"), /convolutions in tf32/);
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

test("a bias grows classes, and small components are removed from the map that is written", async () => {
  const go = async (name: string, ...more: string[]) => {
    const path = join(root, `${name}.nii`);
    const outcome = await voxgrad(["predict", "--run", run, "--input", image, "--out", path, ...more]);
    assert.is(outcome.status, 0, outcome.err);
    return { map: await labels(path), said: outcome.out };
  };
  const ones = (map: Uint8Array) => map.reduce((sum, label) => sum + label, 0);
  const plain = await go("plain");
  assert.not.match(plain.said, /bias|cleaning|removed/);
  const more = await go("more", "--class-bias", "0.6");
  assert.match(more.said, /bias {6}0, 0\.6 added to the log probabilities/);
  assert.ok(ones(more.map) > ones(plain.map));
  assert.ok(ones((await go("less", "--class-bias=0,-0.6")).map) < ones(plain.map));

  const { size, geometry } = await readHeader(image);
  const [x, y, z] = geometry.spacing;
  const cases: { argv: string[]; options: ComponentOptions; says: string }[] = [
    {
      argv: ["--min-component", "30"],
      options: { within: "slice", minimum: 30 },
      says: "below 30 voxels removed, within each slice, connectivity 8",
    },
    {
      argv: ["--min-component", `${30 * x * y}mm2`, "--connectivity", "4"],
      options: { within: "slice", connectivity: 4, minimum: 30 },
      says: `below ${30 * x * y}mm2 removed, within each slice, connectivity 4`,
    },
    {
      argv: ["--min-component", `${9.5 * x * y * z}mm3`, "--components", "volume", "--connectivity", "6"],
      options: { within: "volume", connectivity: 6, minimum: 10 },
      says: `below ${9.5 * x * y * z}mm3 removed, within each volume, connectivity 6`,
    },
    {
      argv: ["--largest-component", "--min-component", "2"],
      options: { within: "volume", largest: true, minimum: 2 },
      says: "below 2 voxels and all but the largest of each class removed, within each volume, connectivity 26",
    },
  ];
  for (const [index, { argv, options, says }] of cases.entries()) {
    const expected = plain.map.slice();
    const [removed] = await removeComponents(expected, size, options);
    const { map, said } = await go(`clean${index}`, ...argv);
    assert.equal(map, expected);
    assert.ok(said.includes(`cleaning  ${says}\n`), said);
    const told = removed === undefined ? "none" : `class 1 ${removed.components} (${removed.voxels} voxels)`;
    assert.ok(said.includes(`components removed: ${told}\n`), said);
  }
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
  await refuse([...base, "--class-bias", "0.6,x"], /--class-bias takes a number or one per class/);
  await refuse([...base, "--class-bias", "0,1,2"], /expected 2 numbers, one per class/);
  await refuse([...base, "--class-bias", "60"], /between -50 and 50, found 60/);
  await refuse([...base, "--components", "volume"], /--components needs --min-component N or --largest/);
  await refuse([...base, "--connectivity", "8"], /--connectivity needs --min-component N or --largest/);
  await refuse(
    [...base, "--min-component", "9", "--connectivity", "26"],
    /within a slice is one of 4, 8; found 26/,
  );
  await refuse(
    [...base, "--largest-component", "--connectivity", "8"],
    /within a volume is one of 6, 18, 26; found 8/,
  );
  await refuse([...base, "--largest-component", "--connectivity", "5"], /expected one of 4, 8, 6, 18, 26/);
  await refuse([...base, "--min-component", "5mm3"], /within a slice are measured in mm2, found 5mm3/);
  for (const size of ["0", "1.5", "-4", "0mm2", "9mm", "many"])
    await refuse([...base, `--min-component=${size}`], /takes a number of voxels, or a size such as/);
  await refuse(["predict", "--run", run, "--input", image, "--out", image], /would overwrite the image/);
  for (const name of ["x.png", "x.nrrd", "x.nii.zip.gz"])
    await refuse(
      ["predict", "--run", run, "--input", image, "--out", name],
      /ends in \.nii or \.nii\.gz, or a folder/,
    );
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
