import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { caseBytes, CaseFile } from "../../lib/data/case_file.ts";
import { codeImage, floatImage } from "../../lib/data/coded_image.ts";
import { foregroundVoxels, PatchDraws, type PatchVolume } from "../../lib/data/patch_draws.ts";
import type { Triple } from "../../lib/data/volume.ts";
import { DataError } from "../../lib/errors.ts";
import { Random } from "../../lib/random.ts";

const folder = mkdtempSync(join(tmpdir(), "voxgrad-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "a.case");

const size: Triple = [50, 40, 45];
const voxels = 50 * 40 * 45;

function made(levels: number, labeled: boolean): PatchVolume {
  const random = new Random(1, levels);
  const image = Float32Array.from({ length: voxels }, () => random.below(levels) / 7);
  const label = labeled ? Uint8Array.from({ length: voxels }, (_, i) => (i % 97 < 2 ? 1 : 0)) : undefined;
  return { image: codeImage(image), label, size, foreground: label ? foregroundVoxels(label) : [] };
}

for (const [levels, labeled] of [
  [200, true],
  [1000, false],
  [10_000_000, true],
] as const)
  test(`a case of ${levels} values comes back slice by slice, ${labeled ? "with" : "without"} its labels`, async () => {
    const volume = made(levels, labeled);
    await CaseFile.write(path, volume);
    const file = (await CaseFile.open(path)) as CaseFile;
    assert.equal(file.size, size);
    assert.is(file.bytes, caseBytes(volume));
    assert.equal(file.foreground, volume.foreground);
    const whole = floatImage(volume.image);
    for (const [from, to] of [
      [0, 45],
      [7, 8],
      [44, 45],
    ]) {
      const part = await file.slices(from, to);
      assert.equal(floatImage(part.image), whole.slice(from * 2000, to * 2000));
      assert.equal(part.label, volume.label?.slice(from * 2000, to * 2000));
    }
  });

for (const patch of [
  [16, 16, 1],
  [60, 8, 20],
  [8, 8, 64],
] as const)
  test(`patches of ${patch.join(" x ")} cut from their slices are those of the whole`, async () => {
    const volume = made(300, true);
    await CaseFile.write(path, volume);
    const file = (await CaseFile.open(path)) as CaseFile;
    const draws = new PatchDraws(1, { patch, seed: 3, stream: 0, foreground: 0.5 });
    const length = patch[0] * patch[1] * patch[2];
    for (let draw = 0; draw < 12; draw++) {
      const cutFrom = (source: PatchVolume) => {
        const batch = { image: new Float32Array(length), label: new Uint8Array(length) };
        draws.cut(draw, source, 0, batch.image, batch.label);
        return batch;
      };
      const part = await file.slices(...draws.slicesOf(draw, file));
      assert.equal(cutFrom(part), cutFrom(volume));
    }
  });

test("there is nothing to open where nothing was written", async () => {
  assert.is(await CaseFile.open(join(folder, "b.case")), undefined);
});

const damages: [string, () => void, RegExp][] = [
  ["cut off", () => truncateSync(path, 5000), /found 5000 bytes/],
  ["cut off in its first words", () => truncateSync(path, 10), /found 10 bytes/],
  ["some other file", () => writeFileSync(path, "x".repeat(5000)), /found another kind of file/],
];
for (const [name, damage, message] of damages)
  test(`a file that is ${name} is named, and what to do`, async () => {
    await CaseFile.write(path, made(20, false));
    damage();
    const error = await CaseFile.open(path).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.instance(error, DataError);
    assert.match((error as Error).message, message);
    assert.match((error as Error).message, /delete the file/);
  });

test.run();
