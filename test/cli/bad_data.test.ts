import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  readLabels,
  type Triple,
  screenGeometry,
  voxelCount,
  writeImage,
  writeLabels,
} from "../../lib/data/index.ts";
import { scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
let count = 0;

async function cohort(labelSize: Triple = [16, 16, 16], label = 1): Promise<string> {
  const folder = join(root, `data${count++}`);
  for (const part of ["images", "labels"]) mkdirSync(join(folder, part), { recursive: true });
  const size: Triple = [16, 16, 16];
  const geometry = screenGeometry(size, [1, 1, 1]);
  const image = Float32Array.from({ length: voxelCount(size) }, (_, i) => i % 7);
  await writeImage(join(folder, "images", "a.nii"), { size, data: image, geometry });
  const labels = new Uint8Array(voxelCount(labelSize)).fill(label, 0, 100);
  await writeLabels(join(folder, "labels", "a.nii"), { size: labelSize, data: labels, geometry });
  return folder;
}

async function refuse(data: string, expected: RegExp, ...more: string[]): Promise<void> {
  const run = join(root, `run${count++}`);
  const argv = ["train", "supervised", "--data", data, "--out", run, "--steps", "1", ...tiny, ...more];
  const { status, err } = await voxgrad(argv);
  assert.is(status, 1, err);
  assert.match(err, expected);
  assert.not.match(err, /\n\s+at /);
  assert.not(existsSync(run), "a run that cannot begin leaves no folder");
}

test("an image that is cut short", async () => {
  const data = await cohort();
  const path = join(data, "images", "a.nii");
  writeFileSync(path, readFileSync(path).subarray(0, 2000));
  await refuse(data, /images\/a\.nii: .*expected a file that holds them, found 2000 bytes/);
});

test("labels that no voxel has are pointed out, and trained with", async () => {
  for (const [label, said] of [
    [1, undefined],
    [4, "no voxel has label 2, 3: "],
    [20, "no voxel has label 2, 3, 4, 5, 6, 7, 8, 9, …: "],
  ] as const) {
    const data = await cohort(undefined, label);
    const path = join(data, "labels", "a.nii");
    const { size, data: voxels, geometry } = await readLabels(path);
    await writeLabels(path, { size, data: voxels.fill(1, 0, 50), geometry });
    const run = join(root, `run${count++}`);
    const argv = ["train", "supervised", "--data", data, "--out", run, "--steps", "1", ...tiny];
    const { status, out, err } = await voxgrad(argv);
    assert.is(status, 0, err);
    if (said === undefined) assert.not.match(out, /warning/);
    else assert.ok(out.includes(`warning: ${said}`), out);
  }
});

test("a label of another size than its image", async () => {
  await refuse(
    await cohort([16, 16, 15]),
    /labels\/a\.nii: expected the size of its image .*16 x 16 x 16; found 16 x 16 x 15/,
  );
});

test("labels outside the classes", async () => {
  await refuse(
    await cohort(undefined, 3),
    /labels\/a\.nii: expected whole labels 0 to 1, found 100 voxels/,
    "--set",
    "classes=2",
  );
  await refuse(await cohort(undefined, 255), /write masks as 0 and 1/);
});

test("folders without cases", async () => {
  const data = join(root, "empty");
  for (const part of ["images", "labels"]) mkdirSync(join(data, part), { recursive: true });
  await refuse(data, /images: expected \.nii, \.nii\.gz or \.png files, found none/);
});

test("a plan larger than the memory is refused before it runs", async () => {
  process.env.VOXGRAD_MEMORY = "1000000";
  try {
    await refuse(await cohort(), /ERR_OUT_OF_MEMORY/);
  } finally {
    delete process.env.VOXGRAD_MEMORY;
  }
});

test("a checkpoint that cannot be written leaves the one before whole", async () => {
  const run = join(root, "blocked");
  const argv = ["train", "supervised", "--data", await cohort(), "--out", run, "--steps", "2", ...tiny];
  assert.is((await voxgrad(argv)).status, 0);
  const checkpoint = readFileSync(join(run, "last.safetensors"));
  const config = readFileSync(join(run, "config.json"), "utf8");
  writeFileSync(join(run, "config.json"), config.replace('"steps": 2', '"steps": 4'));
  // A folder in the place of the file: refused by the system as a full disk is, only sooner.
  const best = join(run, "best.safetensors");
  rmSync(best);
  mkdirSync(join(best, "x"), { recursive: true });
  const { status, err } = await voxgrad(["train", "--out", run, "--resume"]);
  assert.is(status, 1);
  assert.match(err, /best\.safetensors: could not be written/);
  assert.match(err, /the last checkpoint is kept; continue from it with: voxgrad train --out/);
  assert.ok(readFileSync(join(run, "last.safetensors")).equals(checkpoint));
  assert.not(readdirSync(run).some((name) => name.endsWith(".tmp")));
});

test.run();
