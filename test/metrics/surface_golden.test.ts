/** Figures of a public pair of segmentations, computed independently in every convention. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readLabels } from "../../lib/data/nifti.ts";
import { classBoxes } from "../../lib/metrics/overlap.ts";
import { elementDistances, type Spread, voxelDistances } from "../../lib/metrics/surface_distances.ts";
import { enclosing } from "../../lib/metrics/surface_geometry.ts";
import { elementMeasures, surfaceDice, voxelMeasures } from "../../lib/metrics/surface_measures.ts";

type Figures = Record<string, number>;
interface Golden {
  flare22_NSD_by_tolerance_mm: Figures;
  deepmind_avg_surface_distance_mm_gt2pred_pred2gt: [number, number];
  deepmind_HD95_mm: number;
  deepmind_HD100_mm: number;
  chaos_border_value_1_mm: Figures;
  chaos_border_value_1_voxel: Figures;
  medpy_border_value_0_mm: Figures;
  medpy_border_value_0_voxel: Figures;
}

const close = (found: number, expected: number, what: string) =>
  assert.ok(Math.abs(found - expected) <= 1e-9 * expected, `${what}: ${found} against ${expected}`);

const folder = join(import.meta.dirname, "../../../shared/data/chaos_ct3");
if (existsSync(folder)) {
  const golden = JSON.parse(readFileSync(join(folder, "golden_metrics.json"), "utf8")) as Golden;
  const ref = await readLabels(join(folder, "liver_ref_512.nii.gz"), 2);
  const pred = await readLabels(join(folder, "liver_sample_seg_512.nii.gz"), 2);
  const { size } = ref;
  const box = enclosing(classBoxes(ref.data, size, 2)[1], classBoxes(pred.data, size, 2)[1]);
  if (!box) throw new Error("the golden maps are empty");
  const { spacing } = ref.geometry;
  const pair = { ref: ref.data, pred: pred.data, size, spacing, label: 1, box };

  test("golden: surface elements of DeepMind and FLARE22", () => {
    const distances = elementDistances(pair);
    for (const [tolerance, expected] of Object.entries(golden.flare22_NSD_by_tolerance_mm))
      close(surfaceDice(distances, Number(tolerance)), expected, `NSD at ${tolerance} mm`);
    const found = elementMeasures(distances);
    const [refToPred, predToRef] = golden.deepmind_avg_surface_distance_mm_gt2pred_pred2gt;
    close(found.asdRefToPred, refToPred, "mean distance of the reference's surface");
    close(found.asdPredToRef, predToRef, "mean distance of the prediction's surface");
    close(found.hd95, golden.deepmind_HD95_mm, "HD95");
    close(found.hd, golden.deepmind_HD100_mm, "HD");
  });

  const conventions = [
    ["chaos_border_value_1_mm", 1, spacing],
    ["chaos_border_value_1_voxel", 1, [1, 1, 1]],
    ["medpy_border_value_0_mm", 0, spacing],
    ["medpy_border_value_0_voxel", 0, [1, 1, 1]],
  ] as const;
  for (const [name, border, unit] of conventions) {
    test(`golden: surface voxels, ${name}`, () => {
      const distances = voxelDistances({ ...pair, spacing: unit }, border);
      const count = ({ weights }: Spread) => weights.reduce((sum, weight) => sum + weight, 0);
      const measures = voxelMeasures(distances);
      const found: Figures = {
        n_surface_ref: count(distances.refToPred),
        n_surface_seg: count(distances.predToRef),
        "ASD_seg2ref(medpy asd)": measures.asdPredToRef,
        ASD_ref2seg: measures.asdRefToPred,
        "ASSD_pooled(CHAOS)": measures.assd,
        "ASSD_mean_of_means(medpy assd)": measures.assdMeanOfMeans,
        "HD95_pooled(medpy hd95)": measures.hd95,
        HD95_max_of_directed: measures.hd95Directed,
        "HD(MSSD)": measures.hd,
      };
      assert.equal(Object.keys(found), Object.keys(golden[name]));
      for (const [figure, expected] of Object.entries(golden[name])) close(found[figure], expected, figure);
    });
  }
} else {
  console.log("skipped: the golden test of surface distances needs ../shared/data/chaos_ct3");
}

test.run();
