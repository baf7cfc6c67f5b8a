import fc from "fast-check";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readLabels } from "../../lib/data/nifti.ts";
import type { Triple } from "../../lib/data/volume.ts";
import { classBoxes, confusion, evaluateCase, overlap, summarize } from "../../lib/metrics/overlap.ts";

test("measures of a case counted by hand", () => {
  const o = overlap({ tp: 6, fp: 2, fn: 3, tn: 9 });
  const expected = {
    dice: 12 / 17,
    jaccard: 6 / 11,
    sensitivity: 6 / 9,
    specificity: 9 / 11,
    accuracy: 15 / 20,
    precision: 6 / 8,
    ravd: 100 / 9,
  };
  assert.equal(o, expected);
});

test("empty classes have defined values", () => {
  const both = overlap({ tp: 0, fp: 0, fn: 0, tn: 10 });
  assert.is(both.dice, 1);
  assert.is(both.jaccard, 1);
  assert.is(both.specificity, 1);
  assert.ok(Number.isNaN(both.sensitivity) && Number.isNaN(both.precision) && Number.isNaN(both.ravd));
  const missed = overlap({ tp: 0, fp: 0, fn: 4, tn: 6 });
  assert.is(missed.dice, 0);
  assert.is(missed.sensitivity, 0);
  assert.ok(Number.isNaN(missed.precision));
  const invented = overlap({ tp: 0, fp: 4, fn: 0, tn: 6 });
  assert.is(invented.jaccard, 0);
  assert.is(invented.precision, 0);
  assert.ok(Number.isNaN(invented.sensitivity) && Number.isNaN(invented.ravd));
});

const maps = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }))
  .chain((size) => {
    const labels = fc.uint8Array({
      min: 0,
      max: 3,
      minLength: size[0] * size[1] * size[2],
      maxLength: size[0] * size[1] * size[2],
    });
    return fc.tuple(fc.constant(size as Triple), labels, labels, fc.nat(2));
  });

test("counts and regions agree with a voxel-by-voxel definition", () => {
  fc.assert(
    fc.property(maps, ([size, ref, pred, margin]) => {
      const results = evaluateCase(ref, pred, size, 4, { roi: margin });
      for (const { class: c, whole, roi } of results) {
        const voxels = Array.from(ref, (_, i) => i);
        const place = (i: number) => [
          i % size[0],
          Math.floor(i / size[0]) % size[1],
          Math.floor(i / (size[0] * size[1])),
        ];
        const count = (among: number[]) => ({
          tp: among.filter((i) => ref[i] === c && pred[i] === c).length,
          fp: among.filter((i) => ref[i] !== c && pred[i] === c).length,
          fn: among.filter((i) => ref[i] === c && pred[i] !== c).length,
          tn: among.filter((i) => ref[i] !== c && pred[i] !== c).length,
        });
        assert.equal(whole, count(voxels));
        const mine = voxels.filter((i) => ref[i] === c).map(place);
        if (mine.length === 0) {
          assert.is(roi, undefined);
          continue;
        }
        const inside = voxels.filter((i) =>
          place(i).every((p, axis) => {
            const along = mine.map((q) => q[axis]);
            return p >= Math.min(...along) - margin && p <= Math.max(...along) + margin;
          }),
        );
        assert.equal(roi, count(inside));
      }
    }),
    { numRuns: 150 },
  );
});

test("a label beyond the classes and a wrong length are refused", () => {
  const size: Triple = [2, 1, 1];
  assert.throws(
    () => confusion(Uint8Array.of(0, 1), Uint8Array.of(0, 2), size, 2),
    /label 2 in the prediction/,
  );
  assert.throws(
    () => confusion(Uint8Array.of(0), Uint8Array.of(0, 1), size, 2),
    /found 1 in the reference and 2/,
  );
  assert.equal(classBoxes(Uint8Array.of(0, 1), size, 3)[2], undefined);
});

test("per case is the mean of measures, global the measure of sums, and undefined values do not drag a mean", () => {
  const size: Triple = [4, 1, 1];
  const good = evaluateCase(Uint8Array.of(1, 1, 0, 0), Uint8Array.of(1, 1, 0, 0), size, 3);
  const half = evaluateCase(Uint8Array.of(1, 0, 2, 2), Uint8Array.of(1, 1, 1, 2), size, 3);
  const { whole, roi } = summarize([good, half]);
  assert.is(whole.cases[1][0]?.dice, 0.5);
  assert.is(whole.classes[0].perCase.dice, 0.75);
  assert.is(whole.classes[0].global.dice, 6 / 8);
  assert.is(whole.classes[0].global.jaccard, 3 / 5);
  assert.is(whole.classes[1].perCase.dice, (1 + 2 / 3) / 2);
  assert.is(whole.classes[1].perCase.sensitivity, 0.5);
  assert.is(whole.mean.perCase.dice, (0.75 + (1 + 2 / 3) / 2) / 2);
  assert.is(roi.cases[0][1], undefined);
  assert.is(roi.classes[1].perCase.dice, 2 / 3);
  const none = summarize([good]).roi.classes[1];
  assert.ok(Number.isNaN(none.global.dice) && Number.isNaN(none.perCase.dice));
  assert.throws(() => summarize([good, []]), /found 2 and 0/);
});

const chaos = join(import.meta.dirname, "../../../shared/data/chaos_ct3");
if (existsSync(chaos)) {
  test("golden: CHAOS CT set 3, sample segmentation against the reference", async () => {
    const golden = JSON.parse(readFileSync(join(chaos, "golden_metrics.json"), "utf8")) as Record<
      string,
      number
    >;
    const ref = await readLabels(join(chaos, "liver_ref_512.nii.gz"), 2);
    const pred = await readLabels(join(chaos, "liver_sample_seg_512.nii.gz"), 2);
    const [liver] = evaluateCase(ref.data, pred.data, ref.size, 2);
    assert.equal(liver.whole, { tp: golden.TP, fp: golden.FP, fn: golden.FN, tn: golden.TN });
    const found = overlap(liver.whole);
    const names = ["dice", "jaccard", "sensitivity", "accuracy", "precision"] as const;
    for (const name of names) assert.ok(Math.abs(found[name] - golden[name]) < 1e-6, name);
    assert.ok(Math.abs(found.specificity - golden["specificity_TN/(TN+FP)"]) < 1e-6);
    assert.ok(Math.abs(found.ravd - golden.RAVD_percent) < 1e-6);
    const { tp, fp, fn, tn } = liver.roi!;
    const prevalence = (tp + fn) / (tp + fp + fn + tn);
    assert.ok(Math.abs(prevalence - 0.296) < 0.001, `liver in its tight box: ${prevalence}`);
  });
} else {
  console.log("skipped: the CHAOS golden test needs ../shared/data/chaos_ct3");
}

test.run();
