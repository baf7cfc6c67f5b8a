/** Folders of slices that are not as they should be, and one that is allowed to be odd, on the way of cross pseudo supervision. */
import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readLabels } from "../../lib/data/index.ts";
import { encodePng } from "../../lib/report/png.ts";
import { scratch, voxgrad } from "./harness.ts";

const root = scratch();
const data = join(root, "data");
const sizes = [
  [40, 36],
  [24, 20],
  [20, 50],
];

function write(path: string, [width, height]: number[], value: (p: number) => number): void {
  const voxels = Uint8Array.from({ length: width * height }, (_, p) => value(p));
  writeFileSync(path, encodePng({ width, height, channels: 1, data: voxels }));
}

/** Three patients of three slices of three sizes; the last slice of each has no label. */
for (const folder of ["images", "labels"]) mkdirSync(join(data, folder), { recursive: true });
for (let i = 0; i < 9; i++) {
  const name = `p${Math.floor(i / 3)}-IM-${i}.png`;
  const size = sizes[i % 3];
  const inside = (p: number) => Math.hypot((p % size[0]) - 9, Math.floor(p / size[0]) - 10) < 6;
  write(join(data, "images", name), size, (p) => (inside(p) ? 180 : 40) + ((p * 7919 + i) % 31));
  if (i % 3 < 2) write(join(data, "labels", name), size, (p) => (inside(p) ? 1 + (p % 2) : 0));
}

const settings = [
  "networks=deeplabv3plus,deeplabv3plus",
  "patch=32x32x1",
  "baseChannels=1",
  "group=^(.+)-IM-",
];
const argv = (from: string, run: string, ...more: string[]) => [
  ...["train", "cps", "--data", from, "--out", join(root, run), "--steps", "2", ...more],
  ...settings.flatMap((setting) => ["--set", setting]),
];

test("slices of several sizes train together, and each gets a label map of its own size", async () => {
  const { status, err } = await voxgrad(argv(data, "mixed", "--set", "validationCases=1"));
  assert.is(err, "");
  assert.is(status, 0);
  const maps = join(root, "maps");
  await voxgrad(["predict", "--run", join(root, "mixed"), "--input", join(data, "images"), "--out", maps]);
  for (const [i, size] of sizes.entries()) {
    const map = await readLabels(join(maps, `p0-IM-${i}.nii.gz`));
    assert.equal(map.size, [...size, 1]);
  }
});

async function refuse(from: string, expected: RegExp, ...more: string[]): Promise<void> {
  const { status, err } = await voxgrad(argv(from, "refused", ...more));
  assert.is(status, 1, err);
  assert.match(err, expected);
  assert.not.match(err, /\n\s+at /);
  assert.not(existsSync(join(root, "refused")), "a run that cannot begin leaves no folder");
}

test("a split file with slices of one patient to train on and to validate by", async () => {
  const path = join(root, "split.json");
  const split = { labeled: ["p0-IM-0", "p1-IM-3"], unlabeled: ["p0-IM-2"], validation: ["p0-IM-1"] };
  writeFileSync(path, JSON.stringify(split));
  await refuse(
    data,
    /split\.json: "p0" would play two parts: case "p0-IM-0" is in "labeled", case "p0-IM-1" in "validation"; list all of its cases under one/,
    ...["--split", path],
  );
});

test("a label with a class that the settings do not have, and one of another size than its slice", async () => {
  const wrong = join(root, "wrong");
  cpSync(data, wrong, { recursive: true });
  const path = join(wrong, "labels", "p1-IM-3.png");
  write(path, sizes[0], (p) => (p < 50 ? 7 : 1));
  await refuse(
    wrong,
    /p1-IM-3\.png: expected whole labels 0 to 2, found 50 voxels with others: 7 \(50 voxels\)/,
    ...["--set", "classes=3"],
  );
  write(path, sizes[1], () => 1);
  await refuse(wrong, /p1-IM-3\.png: expected the size of its image .*, 40 x 36 x 1; found 24 x 20 x 1/);
});

test.run();
