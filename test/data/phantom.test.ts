import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { loadCase, openDataset } from "../../lib/data/dataset.ts";
import { type PhantomCase, phantomCase, writePhantom } from "../../lib/data/phantom.ts";
import type { Triple } from "../../lib/data/volume.ts";

const size: Triple = [48, 48, 32];
const made = Array.from({ length: 12 }, (_, index) => phantomCase({ size, seed: 5, index, classes: 5 }));

function huOf({ image, labels }: PhantomCase, label: number): number[] {
  return [...image.data.filter((_, i) => labels.data[i] === label)];
}
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const share = (c: PhantomCase, label: number) => huOf(c, label).length / c.labels.data.length;

test("a case depends on (seed, index) alone", () => {
  const again = phantomCase({ size, seed: 5, index: 3, classes: 5 });
  assert.equal(again.image.data, made[3].image.data);
  assert.equal(again.labels.data, made[3].labels.data);
  assert.not.equal(phantomCase({ size, seed: 6, index: 3 }).image.data, made[3].image.data);
  const liver = phantomCase({ size, seed: 5, index: 3 });
  assert.equal(
    liver.labels.data,
    made[3].labels.data.map((l) => (l === 1 ? 1 : 0)),
  );
});

test("intensities are whole Hounsfield units within a CT's range; the trunk lies in air", () => {
  for (const { image } of made) {
    assert.ok(image.data.every((v) => Number.isInteger(v) && v >= -1024 && v <= 3071));
    assert.ok(Math.abs(image.data[0] + 1000) < 100);
  }
  assert.equal(made[0].image.geometry.spacing, [7.5, 7.5, 7.5]);
});

test("the liver is the largest organ, on the patient's right, and every organ is there in every case", () => {
  for (const c of made) {
    const shares = [1, 2, 3, 4].map((label) => share(c, label));
    assert.ok(shares[0] > 0.03 && shares[0] < 0.15, `liver share ${shares[0]}`);
    assert.ok(
      shares.slice(1).every((s) => s > 0.001 && s < shares[0]),
      shares.join(),
    );
    let x = 0;
    c.labels.data.forEach((l, i) => (x += l === 1 ? i % size[0] : 0));
    assert.ok(x / huOf(c, 1).length < size[0] / 2 - 2);
  }
});

test("contrast differs between cases, and within a case neighbours share the liver's intensity", () => {
  assert.ok(new Set(made.map(({ phase }) => phase)).size >= 2);
  const livers = made.map((c) => median(huOf(c, 1)));
  assert.ok(Math.max(...livers) - Math.min(...livers) > 30, livers.join());
  for (const c of made) {
    const inside = huOf(c, 1).toSorted((a, b) => a - b);
    const low = inside[Math.floor(inside.length * 0.05)];
    const high = inside[Math.floor(inside.length * 0.95)];
    const outside = c.image.data.filter((v, i) => c.labels.data[i] !== 1 && v >= low && v <= high).length;
    const dice = (2 * 0.9 * inside.length) / (0.9 * inside.length + outside + inside.length);
    assert.ok(dice < 0.85, `an intensity window already segments the liver: Dice ${dice}`);
  }
});

test("borders mix what lies on both sides", () => {
  const { image } = made[0];
  const between = image.data.filter((v) => v > -850 && v < -250).length;
  assert.ok(between > 0.005 * image.data.length, `${between} voxels between air and tissue`);
});

test("a 64 x 64 x 48 case takes well under a second and a half of processor time", () => {
  const before = process.cpuUsage();
  phantomCase({ size: [64, 64, 48], seed: 1, index: 0 });
  const { user } = process.cpuUsage(before);
  assert.ok(user < 1.5e6, `${user / 1e3} ms`);
});

test("a cohort on disk opens as a dataset with hidden labels and test cases", async () => {
  const root = mkdtempSync(join(tmpdir(), "voxgrad-phantom-"));
  const dir = join(root, "cohort");
  const seen: string[] = [];
  const options = { cases: 3, labeled: 1, test: 1, size: [16, 16, 16] as Triple, seed: 2 };
  await writePhantom(dir, options, (done, total) => seen.push(`${done}/${total}`));
  assert.equal(seen, ["1/4", "2/4", "3/4", "4/4"]);
  const { cases, test: held } = await openDataset(dir);
  assert.equal(
    [...cases, ...held].map(({ id, label }) => [id, label !== undefined]),
    [
      ["phantom-000", true],
      ["phantom-001", false],
      ["phantom-002", false],
      ["phantom-003", true],
    ],
  );
  const loaded = await loadCase(cases[0], 2);
  const direct = phantomCase({ size: options.size, seed: 2, index: 0 });
  assert.equal(loaded.image.data, direct.image.data);
  assert.equal(loaded.label!.data, direct.labels.data);
  assert.equal(loaded.warnings, []);
  for (const [more, pattern] of [
    [{}, /expected an empty or new folder/],
    [{ labeled: 4 }, /no more labels than cases; found 3 cases, 4 labelled/],
    [{ cases: 0, labeled: 0 }, /at least one case/],
  ] as const) {
    try {
      await writePhantom(dir, { ...options, ...more });
      assert.unreachable();
    } catch (error) {
      assert.match((error as Error).message, pattern);
    }
  }
  assert.is(readdirSync(join(dir, "images")).length, 3);
  assert.throws(() => phantomCase({ size: [8, 64, 64], seed: 0, index: 0 }), /found 8 x 64 x 64/);
  rmSync(root, { recursive: true });
});

test.run();
