import { type Triple, voxelCount } from "../data/volume.ts";

/** First voxels of windows that cover `extent` evenly, none reaching over its end. */
export function windowStarts(extent: number, window: number, overlap: number): number[] {
  const room = extent - window;
  if (room <= 0) return [0];
  const count = Math.ceil(room / Math.max(1, window * (1 - overlap))) + 1;
  return Array.from({ length: count }, (_, index) => Math.round((room * index) / (count - 1)));
}

/** Where windows lie along each axis of a volume. */
export interface WindowGrid {
  readonly window: Triple;
  /** First voxels along x, y and z; below 0 where the volume is shorter than the window, which then overhangs on both sides. */
  readonly starts: readonly [x: readonly number[], y: readonly number[], z: readonly number[]];
  /** Whether no voxel lies in two windows. */
  readonly apart: boolean;
}

export function windowGrid(size: Triple, window: Triple, overlap: number): WindowGrid {
  const along = (axis: number) => {
    const missing = window[axis] - size[axis];
    return missing > 0 ? [-Math.floor(missing / 2)] : windowStarts(size[axis], window[axis], overlap);
  };
  const starts = [along(0), along(1), along(2)] as const;
  const apart = starts.every((firsts, axis) =>
    firsts.every((first, i) => i === 0 || first - firsts[i - 1] >= window[axis]),
  );
  return { window, starts, apart };
}

/** A Gaussian along each axis, sigma an eighth of the window (Isensee et al. 2021), never below a thousandth. */
export function gaussianWindow(window: Triple): Float32Array {
  const axis = (extent: number) =>
    Float64Array.from({ length: extent }, (_, i) =>
      Math.exp(-0.5 * ((i - (extent - 1) / 2) / (extent / 8)) ** 2),
    );
  const [x, y, z] = window.map(axis);
  const weights = new Float32Array(voxelCount(window));
  let index = 0;
  for (const c of z) for (const b of y) for (const a of x) weights[index++] = Math.max(1e-3, a * b * c);
  return weights;
}

/** The part of a window that lies in the volume, from and to (exclusive) along one axis, in voxels of the volume. */
export function within(start: number, window: number, size: number): [from: number, to: number] {
  return [Math.max(0, start), Math.min(size, start + window)];
}
