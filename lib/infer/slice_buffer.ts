import type { Triple } from "../data/volume.ts";
import { within } from "./windows.ts";

/** The slices of an image that windows still need, read as they come. */
export class SliceBuffer {
  readonly #slices: AsyncIterator<Float32Array, unknown> | Iterator<Float32Array, unknown>;
  readonly #size: Triple;
  /** Slice `z` of the volume is `#held[z - #first]`. */
  readonly #held: Float32Array[] = [];
  #first = 0;

  constructor(slices: AsyncIterable<Float32Array> | Iterable<Float32Array>, size: Triple) {
    this.#slices =
      Symbol.asyncIterator in slices ? slices[Symbol.asyncIterator]() : slices[Symbol.iterator]();
    this.#size = size;
  }

  /** The voxels of a window, zero where it overhangs the volume. Slices in front of it are forgotten: `origin` only grows along z. */
  async cut(origin: Triple, window: Triple): Promise<Float32Array> {
    const [[x0, x1], [y0, y1], [z0, z1]] = [0, 1, 2].map((axis) =>
      within(origin[axis], window[axis], this.#size[axis]),
    );
    await this.#hold(z0, z1);
    const patch = new Float32Array(window[0] * window[1] * window[2]);
    for (let z = z0; z < z1; z++) {
      const slice = this.#held[z - this.#first];
      for (let y = y0; y < y1; y++) {
        const row = y * this.#size[0];
        const to = ((z - origin[2]) * window[1] + y - origin[1]) * window[0] + x0 - origin[0];
        patch.set(slice.subarray(row + x0, row + x1), to);
      }
    }
    return patch;
  }

  async #hold(from: number, to: number): Promise<void> {
    while (this.#first + this.#held.length < to) {
      const next = await this.#slices.next();
      if (next.done) throw new RangeError(`the image has fewer than ${to} slices`);
      this.#held.push(next.value);
    }
    this.#held.splice(0, from - this.#first);
    this.#first = from;
  }

  /** Lets go of where slices come from, such as an open file. */
  async close(): Promise<void> {
    await this.#slices.return?.();
  }
}
