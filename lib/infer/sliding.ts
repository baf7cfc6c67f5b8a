import { type Triple, voxelCount } from "../data/volume.ts";
import { biasFactors } from "./class_bias.ts";
import type { Predictor } from "./predictor.ts";
import { Slab } from "./slab.ts";
import { cut, gaussianWindow, type WindowGrid, windowGrid, within } from "./windows.ts";

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
 * The most probable class of every voxel `[z, y, x]` of a prepared image of `size`, from overlapping windows whose
 * probabilities are averaged. A volume smaller than the window is padded with zeros on both sides. Where no windows overlap and
 * nothing is biased, the device itself finds the class and no probability leaves it; else those of the slices that windows still reach are kept, never
 * those of the volume. The device computes a window while the one before is added up.
 */
export async function predictVolume(
  predictor: Predictor,
  image: Float32Array,
  size: Triple,
  options: SlidingOptions,
): Promise<Uint8Array> {
  const { patch, overlap = 0.5, blend = "gaussian", classBias, signal, onProgress } = options;
  const factors = biasFactors(predictor.classes, classBias);
  const grid = windowGrid(size, patch === "whole" ? wholeWindow(size, predictor) : patch, overlap);
  const { window, apart } = grid;
  const shape = [1, window[2], window[1], window[0]] as const;
  const labels = new Uint8Array(voxelCount(size));
  const patchAt = (origin: Triple) => cut(image, size, origin, window);
  if (apart && factors.every((factor) => factor === 1)) {
    const classify = (origin: Triple) => predictor.classify(patchAt(origin), shape, signal);
    await oneAhead(originsOf(grid), classify, onProgress, signal, (found, origin) =>
      paste(labels, size, found, origin, window),
    );
    return labels;
  }
  const weights = blend === "uniform" || apart ? undefined : gaussianWindow(window);
  const slab = new Slab(size, window[2], factors);
  const run = (origin: Triple) => predictor.run(patchAt(origin), shape, signal);
  await oneAhead(originsOf(grid), run, onProgress, signal, async (probabilities, origin, next) => {
    await slab.add(probabilities, origin, window, weights);
    const from = Math.max(0, origin[2]);
    const to = next === undefined ? size[2] : next[2];
    await slab.finish(from, to, labels);
  });
  return labels;
}

function wholeWindow(size: Triple, { divisor, slices }: Predictor): Triple {
  const up = (axis: number) => Math.ceil(size[axis] / divisor[axis]) * divisor[axis];
  return [up(0), up(1), slices ? 1 : up(2)];
}

/** Window by window, x first, then y, then z: a slice is done as soon as the windows are past it. */
function originsOf({ starts }: WindowGrid): Triple[] {
  return starts[2].flatMap((z) => starts[1].flatMap((y) => starts[0].map((x): Triple => [x, y, z])));
}

/**
 * Calls `use` with what `run` makes of each origin, in order, and the origin behind it, while the next one is already
 * computed. No run is under way any more when it resolves or throws.
 */
async function oneAhead<T>(
  origins: readonly Triple[],
  run: (origin: Triple) => Promise<T>,
  onProgress: SlidingOptions["onProgress"],
  signal: AbortSignal | undefined,
  use: (result: T, origin: Triple, next: Triple | undefined) => Promise<void> | void,
): Promise<void> {
  signal?.throwIfAborted();
  let ahead: Promise<T> | undefined = run(origins[0]);
  try {
    for (const [index, origin] of origins.entries()) {
      const result: T = await ahead;
      ahead = undefined;
      signal?.throwIfAborted();
      const next = origins.at(index + 1);
      if (next !== undefined) {
        ahead = run(next);
        // Its failure is met where it is awaited; until then it must not count as unhandled.
        ahead.catch(() => undefined);
      }
      await use(result, origin, next);
      onProgress?.(index + 1, origins.length);
      if (ahead === undefined) return;
    }
  } finally {
    await ahead?.catch(() => undefined);
  }
}

/** Copies the labels of a window to where it lies. */
function paste(labels: Uint8Array, size: Triple, found: Uint8Array, origin: Triple, window: Triple): void {
  const [[x0, x1], [y0, y1], [z0, z1]] = [0, 1, 2].map((axis) =>
    within(origin[axis], window[axis], size[axis]),
  );
  for (let z = z0; z < z1; z++) {
    for (let y = y0; y < y1; y++) {
      const row = ((z - origin[2]) * window[1] + y - origin[1]) * window[0] - origin[0];
      labels.set(found.subarray(row + x0, row + x1), (z * size[1] + y) * size[0] + x0);
    }
  }
}
