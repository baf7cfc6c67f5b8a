import { type Triple, voxelCount } from "../data/volume.ts";
import { biasFactors } from "./class_bias.ts";
import type { Predictor } from "./predictor.ts";
import { LabelSlab, type Slab, SumSlab } from "./slab.ts";
import { SliceBuffer } from "./slice_buffer.ts";
import { gaussianWindow, type WindowGrid, windowGrid } from "./windows.ts";

export interface SlidingOptions {
  /**
   * Window as x, y, z; `"whole"` takes each volume at once, padded to what the networks divide, or, where they take slices
   * one by one, each slice.
   */
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
 * The most probable class of every voxel `[z, y, x]` of a prepared image of `size`: what `predictSlices` yields, in one
 * array.
 */
export async function predictVolume(
  predictor: Predictor,
  image: Float32Array,
  size: Triple,
  options: SlidingOptions,
): Promise<Uint8Array> {
  const voxels = size[0] * size[1];
  const labels = new Uint8Array(voxelCount(size));
  let z = 0;
  for await (const slice of predictSlices(predictor, slicesOf(image, voxels), size, options))
    labels.set(slice, z++ * voxels);
  return labels;
}

function* slicesOf(image: Float32Array, voxels: number): Generator<Float32Array> {
  for (let at = 0; at < image.length; at += voxels) yield image.subarray(at, at + voxels);
}

/**
 * The most probable class of every voxel of a prepared image of `size`, slice `[y, x]` by slice along z, from overlapping
 * windows whose probabilities are averaged. A volume smaller than the window is padded with zeros on both sides. Slices of the image
 * are asked for as windows need them, and labels are yielded as soon as the windows are past a slice: what is held at a time is
 * a window's depth of the image and of the sums of class probabilities, whatever the number of slices. Where no windows
 * overlap and nothing is biased, the device itself finds the class and no probability leaves it. The device computes a window
 * while the one before is added up.
 */
export async function* predictSlices(
  predictor: Predictor,
  slices: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  size: Triple,
  options: SlidingOptions,
): AsyncGenerator<Uint8Array, void, void> {
  const { patch, overlap = 0.5, blend = "gaussian", classBias } = options;
  const factors = biasFactors(predictor.classes, classBias);
  const grid = windowGrid(size, patch === "whole" ? wholeWindow(size, predictor) : patch, overlap);
  const { window, apart } = grid;
  const shape = [1, window[2], window[1], window[0]] as const;
  const image = new SliceBuffer(slices, size);
  try {
    if (apart && factors.every((factor) => factor === 1)) {
      const classify = async (origin: Triple) =>
        predictor.classify(await image.cut(origin, window), shape, options.signal);
      yield* oneAhead(grid, size, classify, new LabelSlab(size, window[2]), options);
    } else {
      const weights = blend === "uniform" || apart ? undefined : gaussianWindow(window);
      const run = async (origin: Triple) =>
        predictor.run(await image.cut(origin, window), shape, options.signal);
      yield* oneAhead(grid, size, run, new SumSlab(size, window[2], factors, weights), options);
    }
  } finally {
    await image.close();
  }
}

function wholeWindow(size: Triple, { divisor, slices }: Predictor): Triple {
  const up = (axis: number) => Math.ceil(size[axis] / divisor[axis]) * divisor[axis];
  return [up(0), up(1), slices ? 1 : up(2)];
}

/**
 * Runs window after window, x first, then y, then z, and yields the slices that are done. The next window is already computed
 * while one is added to the slab. No run is under way any more when this ends, however it ends.
 */
async function* oneAhead<T>(
  { window, starts }: WindowGrid,
  size: Triple,
  run: (origin: Triple) => Promise<T>,
  slab: Slab<T>,
  { signal, onProgress }: SlidingOptions,
): AsyncGenerator<Uint8Array, void, void> {
  const origins = starts[2].flatMap((z) => starts[1].flatMap((y) => starts[0].map((x): Triple => [x, y, z])));
  signal?.throwIfAborted();
  let ahead: Promise<T> | undefined = run(origins[0]);
  let done = 0;
  try {
    for (const [index, origin] of origins.entries()) {
      const found: T = await ahead;
      ahead = undefined;
      signal?.throwIfAborted();
      const next = origins.at(index + 1);
      if (next !== undefined) ahead = run(next);
      // A failure ahead is met where it is awaited; until then it must not count as unhandled.
      ahead?.catch(() => undefined);
      await slab.add(found, origin, window);
      const end = next === undefined ? size[2] : next[2];
      while (done < end) yield await slab.take(done++);
      onProgress?.(index + 1, origins.length);
      if (ahead === undefined) return;
    }
  } finally {
    await ahead?.catch(() => undefined);
  }
}
