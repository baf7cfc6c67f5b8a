import { ShapeError, UsageError } from "../errors.ts";
import { Random } from "../random.ts";
import { type Triple, voxelCount } from "./volume.ts";

/** One volume that patches are cut from; `image` and `label` are [z, y, x] of `size` (x, y, z). */
export interface SampledVolume {
  image: Float32Array;
  label?: Uint8Array;
  size: Triple;
}

export interface PatchOptions {
  /** Extent of a patch as (x, y, z). */
  patch: Triple;
  seed: number;
  /** Tells samplers of one run apart, e.g. 0 for labelled and 1 for unlabelled cases. */
  stream: number;
  /**
   * Share of patches centred on a foreground voxel, 0 (uniform) … 1; the class is drawn first, then one of
   * its voxels.
   */
  foreground: number;
}

const MAX_VOXELS_PER_CLASS = 1 << 16;

/** Voxel indices of every foreground class that occurs, thinned evenly where there are very many. */
function foregroundVoxels(label: Uint8Array): Uint32Array[] {
  const counts = new Float64Array(256);
  for (const value of label) counts[value]++;
  const strides = counts.map((count) => Math.max(1, Math.ceil(count / MAX_VOXELS_PER_CLASS)));
  const lists = Array.from(
    counts,
    (count, c) => new Uint32Array(c === 0 ? 0 : Math.ceil(count / strides[c])),
  );
  const seen = new Float64Array(256);
  for (let i = 0; i < label.length; i++) {
    const c = label[i];
    if (c === 0) continue;
    const rank = seen[c]++;
    if (rank % strides[c] === 0) lists[c][rank / strides[c]] = i;
  }
  return lists.filter((list) => list.length > 0);
}

/**
 * Cuts batches of patches out of volumes. What a batch holds is a pure function of (seed, stream, step), so a
 * resumed run draws what an uninterrupted one would have drawn.
 *
 * Draw number d = step * count + i takes its volume from the random order of epoch floor(d / volumes): every
 * volume once per epoch. Along an axis where the volume is shorter than the patch, the volume is padded with
 * zeros, floor(missing / 2) before it; along the others the offset is uniform, or centred on a foreground
 * voxel as far as the volume's border allows.
 *
 * Throws UsageError for unusable options and ShapeError when an array's length does not fit its size.
 */
export class PatchSampler {
  readonly #volumes: readonly SampledVolume[];
  readonly #options: PatchOptions;
  readonly #foreground: readonly Uint32Array[][];
  #epoch = -1;
  #order: Uint32Array = new Uint32Array(0);

  constructor(volumes: readonly SampledVolume[], options: PatchOptions) {
    if (volumes.length === 0) throw new UsageError("a patch sampler needs at least one volume, found none");
    if (!options.patch.every((extent) => Number.isInteger(extent) && extent > 0)) {
      throw new UsageError(
        `a patch needs three positive whole extents (x, y, z), found ${options.patch.join(" x ")}`,
      );
    }
    if (!(options.foreground >= 0 && options.foreground <= 1)) {
      throw new UsageError(
        `the share of foreground patches must lie between 0 and 1, found ${options.foreground}`,
      );
    }
    volumes.forEach(({ image, label, size }, i) => {
      const voxels = voxelCount(size);
      if (image.length !== voxels || (label !== undefined && label.length !== voxels)) {
        throw new ShapeError(
          `volume ${i} of the patch sampler: size ${size.join(" x ")} holds ${voxels} voxels, found ` +
            `${image.length} in the image${label ? ` and ${label.length} in the label` : ""}`,
        );
      }
    });
    this.#volumes = volumes;
    this.#options = options;
    this.#foreground = volumes.map(({ label }) =>
      label && options.foreground > 0 ? foregroundVoxels(label) : [],
    );
  }

  /**
   * Fills `image`, and `label` when given, with `count` patches: [count, z, y, x] of the patch's extent.
   * Throws ShapeError when a buffer has another length, UsageError when a label is wanted of a volume that
   * has none.
   */
  sample(step: number, count: number, image: Float32Array, label?: Uint8Array): void {
    const { patch, seed, stream } = this.#options;
    const patchVoxels = voxelCount(patch);
    for (const [name, buffer] of [["image", image] as const, ["label", label] as const]) {
      if (buffer && buffer.length !== count * patchVoxels) {
        throw new ShapeError(
          `a batch of ${count} patches of ${patch.join(" x ")} needs ${count * patchVoxels} values, found ` +
            `${buffer.length} in the ${name} buffer`,
        );
      }
    }
    for (let i = 0; i < count; i++) {
      const draw = step * count + i;
      const index = this.#volumeOf(draw);
      const volume = this.#volumes[index];
      const start = this.#offset(index, new Random(seed, stream, draw, 1));
      const at = i * patchVoxels;
      copyPatch(volume.image, volume.size, start, patch, image.subarray(at, at + patchVoxels));
      if (!label) continue;
      if (!volume.label) {
        throw new UsageError(`volume ${index} of the patch sampler has no label, but labels were asked for`);
      }
      copyPatch(volume.label, volume.size, start, patch, label.subarray(at, at + patchVoxels));
    }
  }

  #volumeOf(draw: number): number {
    const epoch = Math.floor(draw / this.#volumes.length);
    if (epoch !== this.#epoch) {
      const { seed, stream } = this.#options;
      this.#order = new Random(seed, stream, epoch).permutation(this.#volumes.length);
      this.#epoch = epoch;
    }
    return this.#order[draw % this.#volumes.length];
  }

  /** First voxel of the patch in the volume; negative where the patch overhangs. */
  #offset(index: number, random: Random): Triple {
    const { patch, foreground } = this.#options;
    const { size } = this.#volumes[index];
    const classes = this.#foreground[index];
    const centred = random.uniform() < foreground && classes.length > 0;
    if (!centred) {
      const place = (extent: number, length: number) =>
        extent < length ? -Math.floor((length - extent) / 2) : random.below(extent - length + 1);
      return [place(size[0], patch[0]), place(size[1], patch[1]), place(size[2], patch[2])];
    }
    const voxels = classes[random.below(classes.length)];
    const voxel = voxels[random.below(voxels.length)];
    const centre = [
      voxel % size[0],
      Math.floor(voxel / size[0]) % size[1],
      Math.floor(voxel / (size[0] * size[1])),
    ];
    const place = (axis: number) => {
      const room = size[axis] - patch[axis];
      if (room < 0) return -Math.floor(-room / 2);
      return Math.min(room, Math.max(0, centre[axis] - Math.floor(patch[axis] / 2)));
    };
    return [place(0), place(1), place(2)];
  }
}

function copyPatch<T extends Float32Array | Uint8Array>(
  source: T,
  size: Triple,
  start: Triple,
  patch: Triple,
  target: T,
): void {
  const overhangs = start.some((first, axis) => first < 0 || first + patch[axis] > size[axis]);
  if (overhangs) target.fill(0);
  const from = start.map((first) => Math.max(0, first));
  const to = start.map((first, axis) => Math.min(size[axis], first + patch[axis]));
  for (let z = from[2]; z < to[2]; z++) {
    for (let y = from[1]; y < to[1]; y++) {
      const row = (z * size[1] + y) * size[0];
      const at = ((z - start[2]) * patch[1] + (y - start[1])) * patch[0] + (from[0] - start[0]);
      target.set(source.subarray(row + from[0], row + to[0]), at);
    }
  }
}
