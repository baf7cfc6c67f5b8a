import { counted, ShapeError, UsageError } from "../errors.ts";
import { Random } from "../random.ts";
import { copyIntensities, type Intensities, intensityCount } from "./coded_image.ts";
import { type Triple, voxelCount } from "./volume.ts";

/** A volume that patches are cut from; `image` and `label` are [z, y, x] of `size` (x, y, z), or some slices of that. */
export interface PatchVolume {
  readonly image: Intensities;
  readonly label?: Uint8Array;
  readonly size: Triple;
  /** Voxels of each labelled structure that patches may be centred on. */
  readonly foreground: readonly Uint32Array[];
  /** The slice that `image` and `label` begin with, where they are not whole. */
  readonly first?: number;
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
export function foregroundVoxels(label: Uint8Array): Uint32Array[] {
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

interface Epoch {
  /** Volume of each draw of the epoch, and the draw of each volume. */
  readonly order: Uint32Array;
  readonly places: Uint32Array;
}

/**
 * Which volume each draw takes and where it cuts: a pure function of (seed, stream, draw), whatever was drawn before.
 *
 * Draw number d takes its volume from the random order of epoch floor(d / volumes): every volume once per epoch. Along an
 * axis where the volume is shorter than the patch, the volume is padded with zeros, floor(missing / 2) before it; along the
 * others the offset is uniform, or centred on a foreground voxel as far as the volume's border allows.
 *
 * Throws UsageError for unusable options.
 */
export class PatchDraws {
  readonly #volumes: number;
  readonly #options: PatchOptions;
  readonly #epochs = new Map<number, Epoch>();

  constructor(volumes: number, options: PatchOptions) {
    if (volumes < 1) throw new UsageError("a patch sampler needs at least one volume, found none");
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
    this.#volumes = volumes;
    this.#options = options;
  }

  /** The volume that a draw takes. */
  volumeOf(draw: number): number {
    return this.#epoch(Math.floor(draw / this.#volumes)).order[draw % this.#volumes];
  }

  /** The first draw from `draw` on that takes a volume. */
  nextDraw(volume: number, draw: number): number {
    const epoch = Math.floor(draw / this.#volumes);
    const place = (e: number) => e * this.#volumes + this.#epoch(e).places[volume];
    return place(epoch) >= draw ? place(epoch) : place(epoch + 1);
  }

  /** Throws ShapeError unless a buffer holds `count` patches. */
  checkBuffer(name: string, length: number, count: number): void {
    const { patch } = this.#options;
    if (length === count * voxelCount(patch)) return;
    throw new ShapeError(
      `a batch of ${counted(count, "patch")} of ${patch.join(" x ")} needs ${counted(count * voxelCount(patch), "value")}, found ` +
        `${length} in the ${name} buffer`,
    );
  }

  /** The slices [from, to) across z that the patch of a draw has voxels of. */
  slicesOf(draw: number, volume: Pick<PatchVolume, "size" | "foreground">): [from: number, to: number] {
    const start = this.#start(draw, volume)[2];
    return [Math.max(0, start), Math.min(volume.size[2], start + this.#options.patch[2])];
  }

  /**
   * Writes the patch of a draw, [z, y, x], into place `index` of a batch's `image`, and `label` when given. `volume` is that of
   * `volumeOf(draw)`, its slices of `slicesOf` at least.
   */
  cut(draw: number, volume: PatchVolume, index: number, image: Float32Array, label?: Uint8Array): void {
    const { patch } = this.#options;
    const start = this.#start(draw, volume);
    const voxels = voxelCount(patch);
    const part = image.subarray(index * voxels, (index + 1) * voxels);
    copyRows(volume, start, patch, part, (from, to, at) => copyIntensities(volume.image, from, to, part, at));
    if (!label) return;
    const labels = volume.label;
    if (!labels) {
      throw new UsageError(
        `volume ${this.volumeOf(draw)} of the patch sampler has no label, but labels were asked for`,
      );
    }
    const own = label.subarray(index * voxels, (index + 1) * voxels);
    copyRows(volume, start, patch, own, (from, to, at) => own.set(labels.subarray(from, to), at));
  }

  #epoch(number: number): Epoch {
    let epoch = this.#epochs.get(number);
    if (epoch === undefined) {
      const { seed, stream } = this.#options;
      const order = new Random(seed, stream, number).permutation(this.#volumes);
      const places = new Uint32Array(this.#volumes);
      for (const [place, volume] of order.entries()) places[volume] = place;
      epoch = { order, places };
      for (const kept of this.#epochs.keys()) if (Math.abs(kept - number) > 1) this.#epochs.delete(kept);
      this.#epochs.set(number, epoch);
    }
    return epoch;
  }

  /** First voxel of the patch in the volume; negative where the patch overhangs. */
  #start(draw: number, { size, foreground: classes }: Pick<PatchVolume, "size" | "foreground">): Triple {
    const { patch, foreground, seed, stream } = this.#options;
    const random = new Random(seed, stream, draw, 1);
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

/** Throws ShapeError unless image and label have as many voxels as the size says. */
export function checkVoxels(name: string, { image, label, size }: Omit<PatchVolume, "foreground">): void {
  const voxels = voxelCount(size);
  const found = intensityCount(image);
  if (found === voxels && (label === undefined || label.length === voxels)) return;
  throw new ShapeError(
    `${name}: size ${size.join(" x ")} holds ${counted(voxels, "voxel")}, found ` +
      `${found} in the image${label ? ` and ${label.length} in the label` : ""}`,
  );
}

/** Calls `copy(from, to, at)` for every row of a volume's voxels that falls into the patch at `start`; the rest of `target` is 0. */
function copyRows(
  { size, first = 0 }: PatchVolume,
  start: Triple,
  patch: Triple,
  target: Float32Array | Uint8Array,
  copy: (from: number, to: number, at: number) => void,
): void {
  const overhangs = start.some((first, axis) => first < 0 || first + patch[axis] > size[axis]);
  if (overhangs) target.fill(0);
  const from = start.map((first) => Math.max(0, first));
  const to = start.map((first, axis) => Math.min(size[axis], first + patch[axis]));
  for (let z = from[2]; z < to[2]; z++) {
    for (let y = from[1]; y < to[1]; y++) {
      const row = ((z - first) * size[1] + y) * size[0];
      const at = ((z - start[2]) * patch[1] + (y - start[1])) * patch[0] + (from[0] - start[0]);
      copy(row + from[0], row + to[0], at);
    }
  }
}
