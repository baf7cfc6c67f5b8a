import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { screenGeometry, type Triple, voxelCount, writeLabels } from "../../lib/data/index.ts";
import { scratch, voxgrad } from "./harness.ts";

const root = scratch();
const size: Triple = [10, 8, 6];

/** Writes a map whose voxels x < `width` of the rows y < 4 and slices z < 2 hold `label`. */
async function write(
  path: string,
  width: number,
  label = 1,
  extent = size,
  spacing: Triple = [1, 1, 1],
): Promise<string> {
  const data = new Uint8Array(voxelCount(extent));
  for (let z = 0; z < 2; z++)
    for (let y = 0; y < 4; y++)
      data.fill(label, (z * extent[1] + y) * extent[0], (z * extent[1] + y) * extent[0] + width);
  mkdirSync(join(path, ".."), { recursive: true });
  await writeLabels(path, { size: extent, data, geometry: screenGeometry(extent, spacing) });
  return path;
}

const ref = await write(join(root, "ref", "a.nii.gz"), 4);
const pred = await write(join(root, "pred", "a.nii"), 3);
await write(join(root, "ref", "b.nii"), 2);
await write(join(root, "pred", "b.nii"), 4);

interface Surface {
  nsd: number;
  elements: Record<string, number>;
  voxels: Record<string, number>;
}

interface Json {
  classes: number;
  cases: {
    case: string;
    classes: {
      whole: Record<string, number>;
      roi: Record<string, number>;
      surface?: Surface;
      flare22?: { organ: string; dsc: number; nsd: number };
    }[];
  }[];
  pooled: Record<"whole" | "roi", Record<"perCase" | "global", Record<string, number>>>;
  surface?: {
    tolerance: number;
    unit: string;
    border: number;
    classes: Surface[];
    mean: Surface & { defined: number };
  };
  flare22?: {
    organs: { organ: string; tolerance: number; dsc: number }[];
    mean: { dsc: number; nsd: number };
  };
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
  assert.match(out, /bounding box of the reference \+ 1 voxel/);
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

test("surfaces: both conventions, in the unit and with the tolerance asked for", async () => {
  const spaced = (width: number, folder: string) =>
    write(join(root, "spaced", folder, "c.nii"), width, 1, size, [2, 1, 1]);
  const argv = ["evaluate", "--ref", await spaced(6, "ref"), "--pred", await spaced(4, "pred"), "--json"];
  const surfaceOf = async (...options: string[]) =>
    (JSON.parse((await voxgrad([...argv, ...options])).out) as Json).surface;
  // The far end is two voxels of 2 mm away.
  const mm = await surfaceOf("--surface");
  assert.equal([mm?.tolerance, mm?.unit, mm?.border], [1, "mm", 0]);
  assert.equal([mm?.mean.elements.hd, mm?.mean.voxels.hd, mm?.mean.defined], [4, 4, 1]);
  assert.ok(mm !== undefined && mm.mean.nsd > 0.5 && mm.mean.nsd < 1);
  const wide = await surfaceOf("--tolerance", "4");
  assert.is(wide?.mean.nsd, 1);
  const voxels = await surfaceOf("--voxel-units");
  assert.equal([voxels?.unit, voxels?.mean.voxels.hd], ["voxels", 2]);
  const chaos = await surfaceOf("--border", "1");
  assert.is(chaos?.border, 1);
  assert.ok(Number(chaos?.mean.voxels.assd) > Number(mm.mean.voxels.assd), "fewer surface voxels are right");
  assert.is(await surfaceOf(), undefined);
  assert.is((await voxgrad([...argv, "--border", "2"])).status, 2);
  assert.is((await voxgrad([...argv, "--tolerance", "-1"])).status, 2);
});

test("surfaces of several cases: tables with means, and a word on what these leave out", async () => {
  const folders = ["ref", "pred"].map((name) => join(root, "missed", name));
  for (const folder of folders) await write(join(folder, "a.nii"), 4);
  await write(join(folders[0], "b.nii"), 4);
  await write(join(folders[1], "b.nii"), 0);
  const { status, out } = await voxgrad(["evaluate", "--ref", folders[0], "--pred", folders[1], "--surface"]);
  assert.is(status, 0);
  assert.match(out, /surface elements, mm; NSD within 1 mm\ncase +NSD 1 +HD95 +HD /);
  assert.match(out, /\nb +0\.0000 +nan +nan /);
  assert.match(out, /\nmean +0\.5000 +0\.0000 +0\.0000 /);
  assert.match(out, /surface voxels, mm; border value 0\ncase +HD95 +HD95 directed /);
  assert.match(out, /1 of 2 structures are not in both maps: their distances are left out of means/);
});

test("FLARE22: thirteen organs by name, whatever labels occur", async () => {
  const argv = ["evaluate", "--ref", ref, "--pred", pred, "--flare22"];
  const { out } = await voxgrad(argv);
  assert.match(out, /^FLARE22, 1 case\ncase +organ +DSC +NSD\n/);
  assert.match(out, /\na +liver +0\.8571 +1\.0000\n/);
  assert.match(out, /\na +left kidney +1\.0000 +1\.0000\n/);
  assert.match(out, /\nmean +mean +0\.9890 +1\.0000\n/);
  const { cases, flare22, surface } = JSON.parse((await voxgrad([...argv, "--json"])).out) as Json;
  assert.equal(cases[0].classes[0].flare22, { organ: "liver", dsc: 0.8571, nsd: 1 });
  assert.is(flare22?.organs.length, 13);
  assert.equal(flare22?.organs[11], { class: 12, organ: "duodenum", tolerance: 7, dsc: 1, nsd: 1 });
  assert.is(surface, undefined);
  const refused = await voxgrad([...argv, "--classes", "3"]);
  assert.is(refused.status, 2);
  assert.match(refused.err, /--flare22 has classes of its own/);
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
