import { setImmediate } from "node:timers/promises";
import type { Triple } from "../data/volume.ts";
import { within } from "./windows.ts";

/** Milliseconds that sums may keep the thread before other work gets its turn. */
const LONGEST_MS = 8;

/** The slices that windows still reach, in a ring as deep as a window, so that memory does not depend on how many a volume has. */
export interface Slab<T> {
  /** Takes what was found in a window, `[z, y, x]` or `[z, y, x, classes]`. */
  add(found: T, origin: Triple, window: Triple): Promise<void>;
  /** The labels `[y, x]` of a slice that no later window reaches; its place is free from then on. */
  take(z: number): Promise<Uint8Array>;
}

/** Labels of windows that lie side by side. */
export class LabelSlab implements Slab<Uint8Array> {
  readonly #size: Triple;
  readonly #ring: (Uint8Array | undefined)[];

  constructor(size: Triple, depth: number) {
    this.#size = size;
    this.#ring = Array.from({ length: depth });
  }

  add(found: Uint8Array, origin: Triple, window: Triple): Promise<void> {
    const [[x0, x1], [y0, y1], [z0, z1]] = inside(origin, window, this.#size);
    for (let z = z0; z < z1; z++) {
      const slice = (this.#ring[z % this.#ring.length] ??= new Uint8Array(this.#size[0] * this.#size[1]));
      for (let y = y0; y < y1; y++) {
        const row = ((z - origin[2]) * window[1] + y - origin[1]) * window[0] - origin[0];
        slice.set(found.subarray(row + x0, row + x1), y * this.#size[0] + x0);
      }
    }
    return Promise.resolve();
  }

  take(z: number): Promise<Uint8Array> {
    const at = z % this.#ring.length;
    const slice = this.#ring[at] as Uint8Array;
    this.#ring[at] = undefined;
    return Promise.resolve(slice);
  }
}

/** Sums of class probabilities, weighted by their place in the window where there are weights. */
export class SumSlab implements Slab<Float32Array> {
  readonly #size: Triple;
  readonly #factors: Float64Array;
  readonly #weights: Float32Array | undefined;
  readonly #depth: number;
  readonly #sums: Float32Array;
  #rested = performance.now();

  /** `factors` multiply the sum of each class before the largest is chosen. */
  constructor(size: Triple, depth: number, factors: Float64Array, weights: Float32Array | undefined) {
    this.#size = size;
    this.#factors = factors;
    this.#weights = weights;
    this.#depth = Math.min(depth, size[2]);
    this.#sums = new Float32Array(this.#depth * size[0] * size[1] * factors.length);
  }

  async add(probabilities: Float32Array, origin: Triple, window: Triple): Promise<void> {
    const [[x0, x1], [y0, y1], [z0, z1]] = inside(origin, window, this.#size);
    const classes = this.#factors.length;
    const sums = this.#sums;
    const weights = this.#weights;
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

  /** Every class of a voxel was weighted alike, so sums order the classes as averages do. */
  async take(z: number): Promise<Uint8Array> {
    const voxels = this.#size[0] * this.#size[1];
    const factors = this.#factors;
    const classes = factors.length;
    const ring = (z % this.#depth) * voxels * classes;
    const sums = this.#sums.subarray(ring, ring + voxels * classes);
    const labels = new Uint8Array(voxels);
    for (let voxel = 0, at = 0; voxel < voxels; voxel++, at += classes) {
      let best = 0;
      let most = sums[at] * factors[0];
      for (let c = 1; c < classes; c++) {
        const value = sums[at + c] * factors[c];
        if (value > most) {
          most = value;
          best = c;
        }
      }
      labels[voxel] = best;
    }
    sums.fill(0);
    await this.#rest();
    return labels;
  }

  async #rest(): Promise<void> {
    if (performance.now() - this.#rested < LONGEST_MS) return;
    await setImmediate();
    this.#rested = performance.now();
  }
}

function inside(origin: Triple, window: Triple, size: Triple): [from: number, to: number][] {
  return [0, 1, 2].map((axis) => within(origin[axis], window[axis], size[axis]));
}
