import type { Triple } from "../data/volume.ts";
import { checkLengths } from "./lengths.ts";
import { meanOfDefined } from "./mean.ts";
import { classBoxes } from "./overlap.ts";
import { elementDistances, voxelDistances } from "./surface_distances.ts";
import { type BorderValue, enclosing } from "./surface_geometry.ts";
import {
  type ElementMeasures,
  elementMeasures,
  surfaceDice,
  type VoxelMeasures,
  voxelMeasures,
} from "./surface_measures.ts";

export interface SurfaceOptions {
  spacing: Triple;
  /** Of the surface Dice, in the unit of the spacing; inclusive. */
  tolerance: number;
  /** Of the surface voxels; default 0. */
  border?: BorderValue;
}

/** Surface measures of one foreground class of one case. */
export interface SurfaceScores {
  class: number;
  /** Surface Dice of the elements. */
  nsd: number;
  elements: ElementMeasures;
  voxels: VoxelMeasures;
}

const noElements: ElementMeasures = { asdRefToPred: NaN, asdPredToRef: NaN, hd95: NaN, hd: NaN };
const noVoxels: VoxelMeasures = {
  ...noElements,
  assd: NaN,
  assdMeanOfMeans: NaN,
  hd95Directed: NaN,
};

/**
 * Surface measures of the foreground classes of one case, one class at a time, so that the caller can rest between them.
 *
 * Where a class is in neither map its surface Dice is 1, where it is in one of them 0, as for Dice. Distances to a
 * surface that does not exist are NaN. Labels from `classes` on count as background. Throws ShapeError when a length
 * does not fit the size.
 */
export function* surfaceScores(
  ref: Uint8Array,
  pred: Uint8Array,
  size: Triple,
  classes: number,
  { spacing, tolerance, border = 0 }: SurfaceOptions,
): Generator<SurfaceScores, void, void> {
  checkLengths("surfaces", ref, pred, size);
  const [refBoxes, predBoxes] = [ref, pred].map((labels) => classBoxes(labels, size, classes));
  for (let label = 1; label < classes; label++) {
    const box = enclosing(refBoxes[label], predBoxes[label]);
    if (box && refBoxes[label] && predBoxes[label]) {
      const pair = { ref, pred, size, spacing, label, box };
      const distances = elementDistances(pair);
      const nsd = surfaceDice(distances, tolerance);
      const voxels = voxelMeasures(voxelDistances(pair, border));
      yield { class: label, nsd, elements: elementMeasures(distances), voxels };
    } else yield { class: label, nsd: box ? 0 : 1, elements: noElements, voxels: noVoxels };
  }
}

/** Means over cases of one class, or over the classes. */
export interface SurfaceMeans {
  nsd: number;
  elements: ElementMeasures;
  voxels: VoxelMeasures;
  /** Cases whose distances are defined: in the others a map lacks the class, and they are left out of mean distances. */
  defined: number;
}

export interface SurfaceSummary {
  /** One entry per foreground class. */
  classes: SurfaceMeans[];
  /** Unweighted mean over the foreground classes; `defined` is their sum. */
  mean: SurfaceMeans;
}

function meansOf(values: readonly Omit<SurfaceMeans, "defined">[], defined: number): SurfaceMeans {
  const means = <T extends object>(parts: readonly T[], names: T) =>
    Object.fromEntries(
      Object.keys(names).map((name) => [
        name,
        meanOfDefined(parts.map((part) => part[name as keyof T] as number)),
      ]),
    ) as T;
  return {
    nsd: meanOfDefined(values.map(({ nsd }) => nsd)),
    elements: means(
      values.map(({ elements }) => elements),
      noElements,
    ),
    voxels: means(
      values.map(({ voxels }) => voxels),
      noVoxels,
    ),
    defined,
  };
}

/** Means over the cases, given the scores of every foreground class of each; NaN over nothing. */
export function summarizeSurface(cases: readonly (readonly SurfaceScores[])[]): SurfaceSummary {
  const classes = (cases[0] ?? []).map((_, k) => {
    const scores = cases.map((row) => row[k]);
    return meansOf(scores, scores.filter(({ elements }) => !Number.isNaN(elements.hd)).length);
  });
  const defined = classes.reduce((total, each) => total + each.defined, 0);
  return { classes, mean: meansOf(classes, defined) };
}
