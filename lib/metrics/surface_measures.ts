import type { Spread, SurfaceDistances } from "./surface_distances.ts";

const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);

function mean({ distances, weights }: Spread): number {
  return distances.reduce((total, distance, i) => total + distance * weights[i], 0) / sum(weights);
}

const largest = ({ distances }: Spread) => distances.at(-1) ?? Number.NaN;

/** Both directions in one. */
function pooled({ refToPred, predToRef }: SurfaceDistances): Spread {
  const found = new Map<number, number>();
  for (const { distances, weights } of [refToPred, predToRef])
    distances.forEach((distance, i) => found.set(distance, (found.get(distance) ?? 0) + weights[i]));
  const distances = Float64Array.from(found.keys()).sort();
  return { distances, weights: distances.map((distance) => found.get(distance) as number) };
}

/** The smallest distance that covers at least `share` of the surface. */
function coveringDistance({ distances, weights }: Spread, share: number): number {
  const total = sum(weights);
  let covered = 0;
  for (let i = 0; i < distances.length; i++) {
    covered += weights[i];
    if (covered / total >= share) return distances[i];
  }
  return largest({ distances, weights });
}

/** The quantile of distances of whole weights, between two of them by linear interpolation (NumPy's default). */
function quantile({ distances, weights }: Spread, share: number): number {
  const place = share * (sum(weights) - 1);
  const before = Math.floor(place);
  let [i, covered] = [0, weights[0]];
  while (covered <= before) covered += weights[++i];
  const next = covered > before + 1 || i + 1 === distances.length ? distances[i] : distances[i + 1];
  return distances[i] + (next - distances[i]) * (place - before);
}

/**
 * Normalised surface Dice: the share of both surfaces together that lies no farther than `tolerance` from the
 * other (Nikolov et al. 2018, section "Surface DSC"). Inclusive: a distance equal to the tolerance is within it.
 */
export function surfaceDice({ refToPred, predToRef }: SurfaceDistances, tolerance: number): number {
  const within = ({ distances, weights }: Spread) =>
    weights.reduce((total, weight, i) => (distances[i] <= tolerance ? total + weight : total), 0);
  return (within(refToPred) + within(predToRef)) / (sum(refToPred.weights) + sum(predToRef.weights));
}

/** Measures of surface elements, as DeepMind's surface distances define them. NaN where a surface does not exist. */
export interface ElementMeasures {
  /** Mean distance of the reference's surface from the prediction's, by area. */
  asdRefToPred: number;
  asdPredToRef: number;
  /** For each direction the smallest distance that covers 95 % of the area; the larger of the two. */
  hd95: number;
  /** Hausdorff distance. */
  hd: number;
}

export function elementMeasures({ refToPred, predToRef }: SurfaceDistances): ElementMeasures {
  return {
    asdRefToPred: mean(refToPred),
    asdPredToRef: mean(predToRef),
    hd95: Math.max(coveringDistance(refToPred, 0.95), coveringDistance(predToRef, 0.95)),
    hd: Math.max(largest(refToPred), largest(predToRef)),
  };
}

/** Measures of surface voxels, in the conventions that share the names. NaN where a surface does not exist. */
export interface VoxelMeasures {
  asdRefToPred: number;
  /** medpy's `asd`: tables of LA and Pancreas-CT show it as ASD. */
  asdPredToRef: number;
  /** Mean over the surface voxels of both maps: ASSD of CHAOS. */
  assd: number;
  /** Mean of the two directions' means: medpy's `assd`. */
  assdMeanOfMeans: number;
  /** 95th percentile of the distances of both directions in one list: medpy's `hd95`. */
  hd95: number;
  /** The larger of the two directions' 95th percentiles: MONAI's. */
  hd95Directed: number;
  /** Hausdorff distance; CHAOS calls it MSSD. */
  hd: number;
}

export function voxelMeasures(distances: SurfaceDistances): VoxelMeasures {
  const { refToPred, predToRef } = distances;
  const both = pooled(distances);
  const [asdRefToPred, asdPredToRef] = [mean(refToPred), mean(predToRef)];
  return {
    asdRefToPred,
    asdPredToRef,
    assd: mean(both),
    assdMeanOfMeans: (asdRefToPred + asdPredToRef) / 2,
    hd95: quantile(both, 0.95),
    hd95Directed: Math.max(quantile(refToPred, 0.95), quantile(predToRef, 0.95)),
    hd: largest(both),
  };
}
