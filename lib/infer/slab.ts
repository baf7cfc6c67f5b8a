import { setImmediate } from "node:timers/promises";
import type { Triple } from "../data/volume.ts";
import { within } from "./windows.ts";

/** Milliseconds that sums may keep the thread before other work gets its turn. */
const LONGEST_MS = 8;

/**
 * Sums of class probabilities for the slices that windows still reach: as many as a window is deep, used in a ring, so that
 * memory does not depend on how many slices a volume has.
 */
export class Slab {
  readonly #size: Triple;
  readonly #factors: Float64Array;
  readonly #depth: number;
  readonly #sums: Float32Array;
  #rested = performance.now();

  /** For a volume of `size` and windows of `depth` slices; `factors` multiply the sum of each class before they are compared. */
  constructor(size: Triple, depth: number, factors: Float64Array) {
    this.#size = size;
    this.#factors = factors;
    this.#depth = Math.min(depth, size[2]);
    this.#sums = new Float32Array(this.#depth * size[0] * size[1] * factors.length);
  }

  /** Adds the probabilities `[z, y, x, classes]` of a window, weighted by voxel where there are weights. */
  async add(
    probabilities: Float32Array,
    origin: Triple,
    window: Triple,
    weights: Float32Array | undefined,
  ): Promise<void> {
    const [[x0, x1], [y0, y1], [z0, z1]] = [0, 1, 2].map((axis) =>
      within(origin[axis], window[axis], this.#size[axis]),
    );
    const classes = this.#factors.length;
    const sums = this.#sums;
    for (let z = z0; z < z1; z++) {
      for (let y = y0; y < y1; y++) {
        const row = ((z - origin[2]) * window[1] + y - origin[1]) * window[0] - origin[0];
        let to = (((z % this.#depth) * this.#size[1] + y) * this.#size[0] + x0) * classes;
        let from = (row + x0) * classes;
        for (let x = x0; x < x1; x++) {
          const weight = weights === undefined ? 1 : weights[row + x];
          for (let c = 0; c < classes; c++) sums[to++] += weight * probabilities[from++];
        }
      }
      await this.#rest();
    }
  }

  /**
   * Writes the most probable class of the slices from `from` up to `to` into `labels` `[z, y, x]` of the volume, and makes room
   * for as many behind. Every class of a voxel was weighted alike, so sums order the classes as averages do.
   */
  async finish(from: number, to: number, labels: Uint8Array): Promise<void> {
    const slice = this.#size[0] * this.#size[1];
    const factors = this.#factors;
    const classes = factors.length;
    for (let z = from; z < to; z++) {
      const ring = (z % this.#depth) * slice * classes;
      const sums = this.#sums.subarray(ring, ring + slice * classes);
      for (let voxel = 0, at = 0; voxel < slice; voxel++, at += classes) {
        let best = 0;
        let most = sums[at] * factors[0];
        for (let c = 1; c < classes; c++) {
          const value = sums[at + c] * factors[c];
          if (value > most) {
            most = value;
            best = c;
          }
        }
        labels[z * slice + voxel] = best;
      }
      sums.fill(0);
      await this.#rest();
    }
  }

  async #rest(): Promise<void> {
    if (performance.now() - this.#rested < LONGEST_MS) return;
    await setImmediate();
    this.#rested = performance.now();
  }
}
