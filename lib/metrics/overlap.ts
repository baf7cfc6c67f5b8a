import type { Triple } from "../data/volume.ts";
import { ShapeError } from "../errors.ts";
import { checkLengths } from "./lengths.ts";
import { meanOfDefined } from "./mean.ts";

/** Voxels of one class, as whole numbers (exact to 2^53): found, wrongly found, missed, rightly left out. */
export interface Counts {
  tp: number;
  fp: number;
  fn: number;
  tn: number;
}

/** Overlap of a prediction with its reference; NaN marks a ratio without denominator. */
export interface Overlap {
  dice: number;
  jaccard: number;
  sensitivity: number;
  specificity: number;
  accuracy: number;
  precision: number;
  /** Relative absolute volume difference in percent of the reference: CHAOS. */
  ravd: number;
}

const overlapNames = [
  "dice",
  "jaccard",
  "sensitivity",
  "specificity",
  "accuracy",
  "precision",
  "ravd",
] as const;

/** A box of voxels, first inclusive and last exclusive, in (x, y, z). */
export interface Box {
  from: Triple;
  to: Triple;
}

/**
 * The overlap measures of one class.
 *
 * Where the class is in neither map, Dice and Jaccard are 1: the prediction is right; where it is in one of
 * them only, they are 0. Sensitivity and volume difference without a reference voxel, precision without a
 * predicted one, specificity without a voxel outside the reference: NaN, which `summarize` leaves out of means: no number
 * would say anything about the prediction.
 *
 * Specificity is TN / (TN + FP). The SD-Net paper prints TN / (TP + FP) (eq. 11), which exceeds 1 for any
 * small organ; its tabled values agree with TN / (TN + FP).
 */
export function overlap({ tp, fp, fn, tn }: Counts): Overlap {
  const union = tp + fp + fn;
  return {
    dice: union === 0 ? 1 : (2 * tp) / (2 * tp + fp + fn),
    jaccard: union === 0 ? 1 : tp / union,
    sensitivity: tp / (tp + fn),
    specificity: tn / (tn + fp),
    accuracy: (tp + tn) / (union + tn),
    precision: tp / (tp + fp),
    ravd: tp + fn === 0 ? Number.NaN : (100 * Math.abs(fp - fn)) / (tp + fn),
  };
}

/**
 * Counts of every class, background first, over `box` of two label maps [z, y, x] of `size` (x, y, z).
 * Throws ShapeError when a length does not fit the size or a label is not below `classes`.
 */
export function confusion(
  ref: Uint8Array,
  pred: Uint8Array,
  size: Triple,
  classes: number,
  box: Box = { from: [0, 0, 0], to: size },
): Counts[] {
  checkLengths("overlap", ref, pred, size);
  const joint = new Float64Array(256 * 256);
  for (let z = box.from[2]; z < box.to[2]; z++) {
    for (let y = box.from[1]; y < box.to[1]; y++) {
      const row = (z * size[1] + y) * size[0];
      for (let i = row + box.from[0]; i < row + box.to[0]; i++) joint[ref[i] * 256 + pred[i]]++;
    }
  }
  const refTotals = new Float64Array(256);
  const predTotals = new Float64Array(256);
  for (let r = 0; r < 256; r++) {
    for (let p = 0; p < 256; p++) {
      const count = joint[r * 256 + p];
      refTotals[r] += count;
      predTotals[p] += count;
    }
  }
  for (let c = classes; c < 256; c++) {
    if (refTotals[c] + predTotals[c] > 0) {
      const where = refTotals[c] > 0 ? "reference" : "prediction";
      throw new ShapeError(`overlap of ${classes} classes: found label ${c} in the ${where}`);
    }
  }
  const total = refTotals.reduce((sum, count) => sum + count, 0);
  return Array.from({ length: classes }, (_, c) => {
    const tp = joint[c * 256 + c];
    const fp = predTotals[c] - tp;
    const fn = refTotals[c] - tp;
    return { tp, fp, fn, tn: total - tp - fp - fn };
  });
}

/** The tight box around every class of a label map [z, y, x]; undefined for a class that does not occur. */
export function classBoxes(labels: Uint8Array, size: Triple, classes: number): (Box | undefined)[] {
  const from = Array.from({ length: 256 }, () => [...size]);
  const to = Array.from({ length: 256 }, () => [0, 0, 0]);
  let i = 0;
  for (let z = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      for (let x = 0; x < size[0]; x++) {
        const first = from[labels[i]];
        const last = to[labels[i]];
        i++;
        if (x < first[0]) first[0] = x;
        if (y < first[1]) first[1] = y;
        if (z < first[2]) first[2] = z;
        if (x >= last[0]) last[0] = x + 1;
        if (y >= last[1]) last[1] = y + 1;
        if (z >= last[2]) last[2] = z + 1;
      }
    }
  }
  const triple = (v: number[]): Triple => [v[0], v[1], v[2]];
  return Array.from({ length: classes }, (_, c) =>
    to[c][0] === 0 ? undefined : { from: triple(from[c]), to: triple(to[c]) },
  );
}

/**
 * One foreground class of one case: counts over the whole volume, and in the region of interest when the
 * reference has one.
 */
export interface ClassCounts {
  class: number;
  whole: Counts;
  roi: Counts | undefined;
}

/**
 * Counts of every foreground class of one case, over the whole volume and inside the reference's own tight
 * box of that class, widened by `roi` voxels (default 0) as far as the volume goes. Specificity and accuracy
 * depend strongly on which of the two is meant. A class that the reference lacks has no region of interest.
 * Throws ShapeError as `confusion` does.
 */
export function evaluateCase(
  ref: Uint8Array,
  pred: Uint8Array,
  size: Triple,
  classes: number,
  options: { roi?: number } = {},
): ClassCounts[] {
  const whole = confusion(ref, pred, size, classes);
  const boxes = classBoxes(ref, size, classes);
  const margin = options.roi ?? 0;
  const widen = ({ from, to }: Box): Box => {
    const first = (axis: number) => Math.max(0, from[axis] - margin);
    const last = (axis: number) => Math.min(size[axis], to[axis] + margin);
    return { from: [first(0), first(1), first(2)], to: [last(0), last(1), last(2)] };
  };
  return whole.slice(1).map((counts, i) => {
    const box = boxes[i + 1];
    const roi = box && confusion(ref, pred, size, classes, widen(box))[i + 1];
    return { class: i + 1, whole: counts, roi };
  });
}

/** Summary over cases of one class, or the mean of the classes. */
export interface Averages {
  /** Mean over the cases whose value is defined ("Dice per case"). */
  perCase: Overlap;
  /** Measure of the counts summed over all cases ("Dice global"). */
  global: Overlap;
}

export interface RegionSummary {
  /** `cases[i][k]`: case i, foreground class k + 1; undefined where the region does not exist. */
  cases: (Overlap | undefined)[][];
  /** One entry per foreground class. */
  classes: Averages[];
  /** Unweighted mean over the foreground classes. */
  mean: Averages;
}

export interface OverlapSummary {
  whole: RegionSummary;
  roi: RegionSummary;
}

function meanOf(values: readonly (Overlap | undefined)[]): Overlap {
  const mean = (name: keyof Overlap) => meanOfDefined(values.flatMap((value) => value?.[name] ?? []));
  return Object.fromEntries(overlapNames.map((name) => [name, mean(name)])) as unknown as Overlap;
}

function summarizeRegion(cases: readonly (readonly ClassCounts[])[], region: "whole" | "roi"): RegionSummary {
  const values = cases.map((classes) =>
    classes.map((entry) => {
      const counts = entry[region];
      return counts && overlap(counts);
    }),
  );
  const classes = (cases[0] ?? []).map((_, k) => {
    const sum: Counts = { tp: 0, fp: 0, fn: 0, tn: 0 };
    let found = false;
    for (const row of cases) {
      const counts = row[k][region];
      if (!counts) continue;
      found = true;
      sum.tp += counts.tp;
      sum.fp += counts.fp;
      sum.fn += counts.fn;
      sum.tn += counts.tn;
    }
    return { perCase: meanOf(values.map((row) => row[k])), global: found ? overlap(sum) : meanOf([]) };
  });
  return {
    cases: values,
    classes,
    mean: {
      perCase: meanOf(classes.map(({ perCase }) => perCase)),
      global: meanOf(classes.map(({ global }) => global)),
    },
  };
}

/**
 * Per-case values, their means, and the measures of the pooled counts, for `evaluateCase`'s results of
 * several cases. A mean over nothing is NaN. Throws ShapeError when the cases differ in their number of
 * classes.
 */
export function summarize(cases: readonly (readonly ClassCounts[])[]): OverlapSummary {
  const counts = new Set(cases.map((classes) => classes.length));
  if (counts.size > 1) {
    throw new ShapeError(
      `cases to summarize differ in their number of foreground classes: found ${[...counts].join(" and ")}`,
    );
  }
  return { whole: summarizeRegion(cases, "whole"), roi: summarizeRegion(cases, "roi") };
}
