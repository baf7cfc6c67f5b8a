import { type Triple, voxelCount } from "../data/volume.ts";
import { biasFactors } from "./class_bias.ts";
import type { Predictor } from "./predictor.ts";

export interface SlidingOptions {
  /** Window as x, y, z; `"whole"` takes each volume at once, padded to what the networks divide. */
  readonly patch: Triple | "whole";
  /** Share of a window that its neighbour covers again; default 0.5. */
  readonly overlap?: number;
  /** Weight of a voxel within its window: the same everywhere, or a Gaussian of an eighth of the window; default gaussian. */
  readonly blend?: "gaussian" | "uniform";
  /** Added to the logarithms of the averaged probabilities, a number per class; default 0. See `biasFactors`. */
  readonly classBias?: readonly number[];
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * The most probable class of every voxel `[z, y, x]` of a prepared image of `size`, from overlapping windows whose
 * probabilities are averaged. A volume smaller than the window is padded with zeros on both sides.
 */
export async function predictVolume(
  predictor: Predictor,
  image: Float32Array,
  size: Triple,
  options: SlidingOptions,
): Promise<Uint8Array> {
  const { overlap = 0.5, blend = "gaussian", signal, onProgress } = options;
  const factors = biasFactors(predictor.classes, options.classBias);
  const window = options.patch === "whole" ? roundUp(size, predictor.divisor) : options.patch;
  const frame = padTo(image, size, window);
  const starts = [0, 1, 2].map((axis) => windowStarts(frame.size[axis], window[axis], overlap));
  const origins = starts[2].flatMap((z) => starts[1].flatMap((y) => starts[0].map((x): Triple => [x, y, z])));
  const only = origins.length === 1;
  const weights = blend === "uniform" || only ? undefined : gaussianWindow(window);

  const { classes } = predictor;
  let sums = new Float32Array(only ? 0 : voxelCount(frame.size) * classes);
  for (const [done, origin] of origins.entries()) {
    signal?.throwIfAborted();
    const patch = only ? frame.data : cut(frame.data, frame.size, origin, window);
    const probabilities = await predictor.run(patch, [1, window[2], window[1], window[0]], signal);
    if (only) sums = probabilities as Float32Array<ArrayBuffer>;
    else accumulate(sums, frame.size, probabilities, origin, window, weights, classes);
    onProgress?.(done + 1, origins.length);
  }
  return mostProbable(sums, frame, size, factors);
}

function roundUp(size: Triple, divisor: Triple): Triple {
  const up = (axis: number) => Math.ceil(size[axis] / divisor[axis]) * divisor[axis];
  return [up(0), up(1), up(2)];
}

interface Frame {
  readonly data: Float32Array;
  readonly size: Triple;
  readonly before: Triple;
}

function padTo(image: Float32Array, size: Triple, least: Triple): Frame {
  const padded = size.map((extent, axis) => Math.max(extent, least[axis])) as unknown as Triple;
  const before = size.map((extent, axis) => Math.floor((padded[axis] - extent) / 2)) as unknown as Triple;
  if (padded.every((extent, axis) => extent === size[axis])) return { data: image, size, before };
  const data = new Float32Array(voxelCount(padded));
  for (let z = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      const from = (z * size[1] + y) * size[0];
      const to = ((z + before[2]) * padded[1] + y + before[1]) * padded[0] + before[0];
      data.set(image.subarray(from, from + size[0]), to);
    }
  }
  return { data, size: padded, before };
}

/** First voxels of windows that cover `extent` evenly, none reaching over its end. */
export function windowStarts(extent: number, window: number, overlap: number): number[] {
  const room = extent - window;
  if (room <= 0) return [0];
  const count = Math.ceil(room / Math.max(1, window * (1 - overlap))) + 1;
  return Array.from({ length: count }, (_, index) => Math.round((room * index) / (count - 1)));
}

/** A Gaussian along each axis, sigma an eighth of the window (Isensee et al. 2021), never below a thousandth. */
function gaussianWindow(window: Triple): Float32Array {
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

function cut(image: Float32Array, size: Triple, [x, y, z]: Triple, window: Triple): Float32Array {
  const patch = new Float32Array(voxelCount(window));
  for (let k = 0; k < window[2]; k++) {
    for (let j = 0; j < window[1]; j++) {
      const from = ((z + k) * size[1] + y + j) * size[0] + x;
      patch.set(image.subarray(from, from + window[0]), (k * window[1] + j) * window[0]);
    }
  }
  return patch;
}

function accumulate(
  sums: Float32Array,
  size: Triple,
  probabilities: Float32Array,
  [x, y, z]: Triple,
  window: Triple,
  weights: Float32Array | undefined,
  classes: number,
): void {
  for (let k = 0; k < window[2]; k++) {
    for (let j = 0; j < window[1]; j++) {
      const row = (k * window[1] + j) * window[0];
      let to = (((z + k) * size[1] + y + j) * size[0] + x) * classes;
      let from = row * classes;
      for (let i = 0; i < window[0]; i++) {
        const weight = weights === undefined ? 1 : weights[row + i];
        for (let c = 0; c < classes; c++) sums[to++] += weight * probabilities[from++];
      }
    }
  }
}

/** Every class of a voxel was weighted alike, so sums order the classes as averages do. */
function mostProbable(sums: Float32Array, frame: Frame, size: Triple, factors: Float64Array): Uint8Array {
  const { before, size: padded } = frame;
  const classes = factors.length;
  const labels = new Uint8Array(voxelCount(size));
  let index = 0;
  for (let z = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      let at = (((z + before[2]) * padded[1] + y + before[1]) * padded[0] + before[0]) * classes;
      for (let x = 0; x < size[0]; x++, at += classes) {
        let best = 0;
        let most = sums[at] * factors[0];
        for (let c = 1; c < classes; c++) {
          const value = sums[at + c] * factors[c];
          if (value > most) {
            most = value;
            best = c;
          }
        }
        labels[index++] = best;
      }
    }
  }
  return labels;
}
