import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { orientationOf, readHeader, readImage, readLabels, writeImage } from "../../lib/data/index.ts";
import { makeCohort, scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
const data = await makeCohort(join(root, "data"));
// Class 1 is stored as 50 in some voxels and as 200 in others.
for (const name of readdirSync(join(data, "labels"))) {
  const path = join(data, "labels", name);
  const labels = await readLabels(path);
  const stored = labels.data.map((label, i) => (label === 0 ? 0 : i % 2 ? 50 : 200));
  await writeImage(path, { ...labels, data: Int32Array.from(stored) });
}
const map = join(root, "organs.json");
writeFileSync(map, '{ "50": 1, "200": 1 }');
const run = join(root, "run");
const train = (...more: string[]) =>
  voxgrad(["train", "supervised", "--data", data, "--steps", "2", ...tiny, ...more]);

test("a run reads labels through its map and turns volumes; its predictions lie as the files do", async () => {
  const { status, err, out } = await train(
    "--out",
    run,
    "--label-map",
    map,
    "--set",
    "orientation=RAS",
    "--set",
    "networks=vnet",
  );
  assert.is(err, "");
  assert.is(status, 0);
  assert.match(out, /; 2 classes/);
  const { config } = JSON.parse(readFileSync(join(run, "config.json"), "utf8")) as {
    config: Record<string, unknown>;
  };
  assert.equal(config.labelMap, { "50": 1, "200": 1 });

  const image = join(data, "imagesTs", "phantom-004.nii.gz");
  const predicted = join(root, "predicted.nii.gz");
  const said = await voxgrad(["predict", "--run", run, "--input", image, "--out", predicted]);
  assert.is(said.status, 0, said.err);
  const [before, after] = await Promise.all([readHeader(image), readHeader(predicted)]);
  assert.equal(after.size, before.size);
  assert.equal(after.geometry, before.geometry);

  // The same scan stored in another order is the same to the networks, though it cannot be read slice by slice as the first.
  const { size, data: voxels, geometry } = await readImage(image);
  assert.is(orientationOf(geometry.affine), "LPS");
  const [width, , depth] = size;
  const turned = new Float32Array(voxels.length);
  const labels = (await readLabels(predicted)).data;
  const expected = new Uint8Array(voxels.length);
  for (let i = 0; i < voxels.length; i++) {
    const [x, y, z] = [i % width, Math.floor(i / width) % size[1], Math.floor(i / (width * size[1]))];
    const at = (x * size[1] + y) * depth + z;
    turned[at] = voxels[i];
    expected[at] = labels[i];
  }
  const { affine, spacing } = geometry;
  const swapped = [0, 4, 8].flatMap((row) => [
    affine[row + 2],
    affine[row + 1],
    affine[row],
    affine[row + 3],
  ]);
  const other = join(root, "turned.nii.gz");
  await writeImage(other, {
    size: [depth, size[1], width],
    data: turned,
    geometry: { affine: [...swapped, 0, 0, 0, 1], spacing: [spacing[2], spacing[1], spacing[0]] },
  });
  const again = await voxgrad(["predict", "--run", run, "--input", other, "--out", predicted]);
  assert.is(again.status, 0, again.err);
  assert.equal((await readLabels(predicted)).data, expected);
});

test("references are read through a map, predictions are not", async () => {
  const ref = join(data, "labels", readdirSync(join(data, "labels"))[0]);
  const pred = join(root, "pred.nii.gz");
  const stored = await readLabels(ref);
  await writeImage(pred, { ...stored, data: stored.data.map((label) => (label === 200 ? 1 : 0)) });
  const evaluate = ["evaluate", "--ref", ref, "--pred", pred, "--label-map"];
  const { status, out, err } = await voxgrad([...evaluate, map, "--json"]);
  assert.is(err, "");
  assert.is(status, 0);
  const { classes, cases } = JSON.parse(out) as {
    classes: number;
    cases: { classes: { whole: Record<string, number> }[] }[];
  };
  const { tp, fp, fn } = cases[0].classes[0].whole;
  assert.is(classes, 2);
  const count = (value: number) => stored.data.filter((label) => label === value).length;
  assert.equal([tp, fp, fn], [count(200), 0, count(50)]);
  const flare22 = await voxgrad([...evaluate, map, "--flare22", "--json"]);
  assert.is(flare22.status, 0, flare22.err);
});

test("values without a class and maps that are none are refused, by name", async () => {
  const half = join(root, "half.json");
  writeFileSync(half, '{ "50": 1 }');
  const refused = await train("--out", join(root, "x"), "--label-map", half);
  assert.is(refused.status, 1);
  assert.match(refused.err, /label map takes to classes 0 to 1 .*found \d+ voxels with others: 200 \(/);
  writeFileSync(half, '{ "50": -1 }');
  const wrong = await train("--out", join(root, "x"), "--label-map", half);
  assert.match(wrong.err, /half\.json: expected an object from label values/);
  const set = await train("--out", join(root, "x"), "--set", 'labelMap={"50":"liver"}');
  assert.is(set.status, 2);
  assert.match(set.err, /setting "labelMap": expected an object from label values/);
  const resumed = await voxgrad(["train", "--out", run, "--resume", "--label-map", map]);
  assert.match(resumed.err, /leave --label-map out/);
});

test.run();
