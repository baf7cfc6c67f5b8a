import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { screenGeometry, type Triple, voxelCount, writeLabels } from "../../lib/data/index.ts";
import { scratch, voxgrad } from "./harness.ts";

const root = scratch();
const size: Triple = [10, 8, 6];

/** Writes a map whose voxels x < `width` of the rows y < 4 and slices z < 2 hold `label`. */
async function write(path: string, width: number, label = 1, extent = size): Promise<string> {
  const data = new Uint8Array(voxelCount(extent));
  for (let z = 0; z < 2; z++)
    for (let y = 0; y < 4; y++)
      data.fill(label, (z * extent[1] + y) * extent[0], (z * extent[1] + y) * extent[0] + width);
  mkdirSync(join(path, ".."), { recursive: true });
  await writeLabels(path, { size: extent, data, geometry: screenGeometry(extent, [1, 1, 1]) });
  return path;
}

const ref = await write(join(root, "ref", "a.nii.gz"), 4);
const pred = await write(join(root, "pred", "a.nii"), 3);
await write(join(root, "ref", "b.nii"), 2);
await write(join(root, "pred", "b.nii"), 4);

interface Json {
  classes: number;
  cases: { case: string; classes: { whole: Record<string, number>; roi: Record<string, number> }[] }[];
  pooled: Record<"whole" | "roi", Record<"perCase" | "global", Record<string, number>>>;
}

test("two files: counts and measures, on the volume and on the region of interest", async () => {
  const { status, out, err } = await voxgrad(["evaluate", "--ref", ref, "--pred", pred, "--json"]);
  assert.is(err, "");
  assert.is(status, 0);
  const [{ classes }] = (JSON.parse(out) as Json).cases;
  const { whole, roi } = classes[0];
  assert.equal([whole.tp, whole.fp, whole.fn, whole.tn], [24, 0, 8, 448]);
  assert.is(whole.dice, 48 / 56);
  assert.is(whole.accuracy, 472 / 480);
  assert.equal([roi.tp, roi.fp, roi.fn, roi.tn], [24, 0, 8, 0]);
  assert.is(roi.specificity, null, "no voxel of the box lies outside the reference");
});

test("two folders: tables for people, a file for machines", async () => {
  const argv = ["evaluate", "--ref", join(root, "ref"), "--pred", join(root, "pred"), "--roi-margin", "1"];
  const { status, out } = await voxgrad(argv);
  assert.is(status, 0);
  assert.match(out, /whole volume, 2 cases, 2 classes/);
  assert.match(out, /bounding box of the reference \+ 1 voxels/);
  assert.match(out, /\na +0\.8571 /);
  assert.match(out, /\nwhole, per case +0\.7619 /);
  assert.match(out, /\nwhole, global +0\.7692 /);
  const file = join(root, "scores.json");
  const written = await voxgrad([...argv, "--json", file]);
  assert.is(written.out, "");
  const { pooled } = JSON.parse(readFileSync(file, "utf8")) as Json;
  assert.is(pooled.whole.global.dice, 80 / 104);
  assert.ok(Math.abs(pooled.whole.perCase.dice - (48 / 56 + 32 / 48) / 2) < 1e-12);
});

test("several classes have rows of their own", async () => {
  const a = await write(join(root, "multi", "ref.nii"), 4, 2);
  const b = await write(join(root, "multi", "pred.nii"), 4, 2);
  const { out } = await voxgrad(["evaluate", "--ref", a, "--pred", b]);
  assert.match(out, /whole volume, 1 case, 3 classes/);
  assert.match(out, /\nref +1 +1\.0000/);
  assert.match(out, /\nwhole, global +mean +1\.0000/);
});

test("masks of 0 and 255 are 0 and 1, other labels outside the classes are not", async () => {
  const mask = await write(join(root, "masks", "mask.nii"), 4, 255);
  const two = await write(join(root, "masks", "two.nii"), 4, 2);
  const same = await voxgrad(["evaluate", "--ref", ref, "--pred", mask, "--json"]);
  assert.is((JSON.parse(same.out) as Json).cases[0].classes[0].whole.dice, 1);
  const asMask = await voxgrad(["evaluate", "--ref", mask, "--pred", two, "--classes", "2", "--json"]);
  assert.is((JSON.parse(asMask.out) as Json).cases[0].classes[0].whole.dice, 1);
  const mixed = await voxgrad(["evaluate", "--ref", mask, "--pred", two]);
  assert.is(mixed.status, 2);
  assert.match(mixed.err, /255 beside 2: say with --classes N/);
  const outside = await voxgrad(["evaluate", "--ref", ref, "--pred", mask, "--classes", "3"]);
  assert.is(outside.status, 1);
  assert.match(outside.err, /mask\.nii: expected whole labels 0 to 2, found 32 voxels with others: 255/);
});

test("missing predictions and other sizes are errors, surplus predictions a warning", async () => {
  const few = join(root, "few");
  await write(join(few, "a.nii"), 3);
  const missing = await voxgrad(["evaluate", "--ref", join(root, "ref"), "--pred", few]);
  assert.is(missing.status, 1);
  assert.match(missing.err, /few: expected a prediction for each of 2 references, found none for b/);
  const surplus = await voxgrad(["evaluate", "--ref", few, "--pred", join(root, "pred")]);
  assert.is(surplus.status, 0);
  assert.match(surplus.err, /warning: no reference for b: left out/);
  const small = await write(join(root, "small.nii"), 3, 1, [9, 8, 6]);
  const sizes = await voxgrad(["evaluate", "--ref", ref, "--pred", small]);
  assert.is(sizes.status, 1);
  assert.match(sizes.err, /small\.nii: expected the size of its reference .* 10 x 8 x 6; found 9 x 8 x 6/);
  const kinds = await voxgrad(["evaluate", "--ref", ref, "--pred", few]);
  assert.is(kinds.status, 2);
  const nothing = await voxgrad(["evaluate", "--ref", ref, "--pred", join(root, "nothing")]);
  assert.match(nothing.err, /nothing: expected a label map or a folder of them, found nothing/);
});

test.run();
