import {
  checkVoxels,
  foregroundVoxels,
  PatchDraws,
  type PatchOptions,
  type PatchVolume,
} from "./patch_draws.ts";
import type { Triple } from "./volume.ts";

export type { PatchOptions } from "./patch_draws.ts";

/** One volume that patches are cut from; `image` and `label` are [z, y, x] of `size` (x, y, z). */
export interface SampledVolume {
  image: Float32Array;
  label?: Uint8Array;
  size: Triple;
}

/**
 * Cuts batches of patches out of volumes in memory, in the order and at the places of `PatchDraws`: draw number d = step * count
 * + i is patch i of a step. What a batch holds is a pure function of (seed, stream, step), so a resumed run draws what an
 * uninterrupted one would have drawn.
 *
 * Throws UsageError for unusable options and ShapeError when an array's length does not fit its size.
 */
export class PatchSampler {
  readonly #volumes: readonly PatchVolume[];
  readonly #draws: PatchDraws;

  constructor(volumes: readonly SampledVolume[], options: PatchOptions) {
    this.#draws = new PatchDraws(volumes.length, options);
    this.#volumes = volumes.map((volume, index) => {
      checkVoxels(`volume ${index} of the patch sampler`, volume);
      const { label } = volume;
      return { ...volume, foreground: label && options.foreground > 0 ? foregroundVoxels(label) : [] };
    });
  }

  /**
   * Fills `image`, and `label` when given, with `count` patches: [count, z, y, x] of the patch's extent.
   * Throws ShapeError when a buffer has another length, UsageError when a label is wanted of a volume that
   * has none.
   */
  sample(step: number, count: number, image: Float32Array, label?: Uint8Array): void {
    this.#draws.checkBuffer("image", image.length, count);
    if (label) this.#draws.checkBuffer("label", label.length, count);
    for (let i = 0; i < count; i++) {
      const draw = step * count + i;
      this.#draws.cut(draw, this.#volumes[this.#draws.volumeOf(draw)], i, image, label);
    }
  }
}
