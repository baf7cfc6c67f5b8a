import type { Triple } from "../data/volume.ts";
import { distancesTo } from "./distance_transform.ts";
import { elementAreas } from "./element_areas.ts";
import type { Box } from "./overlap.ts";
import { type BorderValue, extents, surfaceElements, surfaceVoxels } from "./surface_geometry.ts";

/** How far one surface lies from another: the distances that occur, ascending, and how much of the surface has each. */
export interface Spread {
  distances: Float64Array;
  /** Area, or number of voxels. */
  weights: Float64Array;
}

/** Distances between the surfaces of a class in reference and prediction; nothing where one of them does not exist. */
export interface SurfaceDistances {
  /** From the reference's surface to the nearest point of the prediction's. */
  refToPred: Spread;
  predToRef: Spread;
}

/** One class in two label maps [z, y, x] of one size. */
export interface ClassPair {
  ref: Uint8Array;
  pred: Uint8Array;
  size: Triple;
  /** Distance of neighbouring voxels along x, y, z: millimetres, or [1, 1, 1] for distances in voxels. */
  spacing: Triple;
  label: number;
  /** Encloses the class in both maps; what lies outside of it is ignored. */
  box: Box;
}

/**
 * Distances between surface elements: patches of a surface of marching cubes, one where eight voxels meet that do not all
 * belong to the mask, weighted by their area. The convention of DeepMind's surface distances and of FLARE22.
 * Needs about six bytes per voxel of the box.
 */
export function elementDistances(pair: ClassPair): SurfaceDistances {
  const { size, label, box } = pair;
  const [ref, pred] = [pair.ref, pair.pred].map((labels) => surfaceElements({ labels, size, label, box }));
  return between(ref, pred, extents(box, 1), pair.spacing, elementAreas(pair.spacing));
}

/**
 * Distances between surface voxels, from centre to centre, each of weight 1. The convention of medpy and MONAI with
 * `border` 0, of CHAOS with 1. Needs about six bytes per voxel of the box.
 */
export function voxelDistances(pair: ClassPair, border: BorderValue): SurfaceDistances {
  const { size, label, box } = pair;
  const surface = (labels: Uint8Array) => surfaceVoxels({ labels, size, label, box }, border);
  return between(surface(pair.ref), surface(pair.pred), extents(box), pair.spacing, Float64Array.of(0, 1));
}

/** Distances of two surfaces on one grid whose points hold codes, and what part of the surface a code stands for. */
function between(
  ref: Uint8Array,
  pred: Uint8Array,
  size: Triple,
  spacing: Triple,
  weightOf: Float64Array,
): SurfaceDistances {
  const spread = (from: Uint8Array, to: Uint8Array): Spread => {
    const found = new Map<number, number>();
    distancesTo(to, from, size, spacing, (point, distance) => {
      if (distance < Infinity) found.set(distance, (found.get(distance) ?? 0) + weightOf[from[point]]);
    });
    const distances = Float64Array.from(found.keys()).sort();
    return { distances, weights: distances.map((distance) => found.get(distance) as number) };
  };
  return { refToPred: spread(ref, pred), predToRef: spread(pred, ref) };
}
