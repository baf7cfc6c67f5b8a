import { type Triple, voxelCount } from "../data/volume.ts";
import { counted, ShapeError } from "../errors.ts";

/** Of voxels that no seed has reached yet: more steps than any axis has. */
const none = 0xffff;
const unreached = 0xffffffff;

/**
 * Calls `visit(voxel, distance)` for every voxel of `at` that is not 0, with the exact Euclidean distance from its
 * centre to the nearest voxel of `seeds` that is not 0, in the unit of `spacing`; Infinity without seeds.
 * Both are [z, y, x] of `size` (x, y, z). The order of the calls is fixed, but not that of the voxels.
 *
 * One pass per axis (Felzenszwalb and Huttenlocher 2012, "Distance Transforms of Sampled Functions"): time is linear in
 * the voxels. What is kept is not a distance but how many steps away the nearest seed lies along x and y, two
 * 16-bit numbers, so that memory is four bytes per voxel and the result is rounded only when the distance is taken.
 * Throws ShapeError when a length does not fit, an axis has 65535 voxels or more, or a spacing is not positive.
 */
export function distancesTo(
  seeds: Uint8Array,
  at: Uint8Array,
  size: Triple,
  spacing: Triple,
  visit: (voxel: number, distance: number) => void,
): void {
  for (const volume of [seeds, at]) checkVolume(volume, size, spacing);
  const steps = new Uint32Array(seeds.length);
  alongX(seeds, steps, size[0]);
  alongY(steps, size, spacing);
  alongZ(steps, at, size, spacing, visit);
}

/** The distance of every voxel to the nearest seed, [z, y, x]; otherwise as `distancesTo`. */
export function distanceTransform(seeds: Uint8Array, size: Triple, spacing: Triple): Float64Array {
  const distances = new Float64Array(seeds.length);
  distancesTo(seeds, new Uint8Array(seeds.length).fill(1), size, spacing, (voxel, distance) => {
    distances[voxel] = distance;
  });
  return distances;
}

function checkVolume(volume: Uint8Array, size: Triple, spacing: Triple): void {
  const voxels = voxelCount(size);
  if (volume.length !== voxels || size.some((extent) => extent >= none))
    throw new ShapeError(
      `distance transform over ${size.join(" x ")} = ${counted(voxels, "voxel")}, each extent below ${none}: found ${volume.length}`,
    );
  if (!spacing.every((step) => step > 0 && Number.isFinite(step)))
    throw new ShapeError(`distance transform: expected positive spacings, found ${spacing.join(" x ")}`);
}

/** Writes the steps to the nearest seed of the same row; `none` in a row without. */
function alongX(seeds: Uint8Array, steps: Uint32Array, width: number): void {
  for (let row = 0; row < seeds.length; row += width) {
    let near = none;
    for (let i = row; i < row + width; i++) {
      near = seeds[i] !== 0 ? 0 : Math.min(near + 1, none);
      steps[i] = near;
    }
    for (let i = row + width - 2; i >= row; i--) {
      near = Math.min(steps[i + 1] + 1, none);
      if (near < steps[i]) steps[i] = near;
    }
  }
}

/** Turns the steps along x into those to the nearest seed of the slice: y in the upper half, x in the lower. */
function alongY(steps: Uint32Array, [width, height, depth]: Triple, [sx, sy]: Triple): void {
  const envelope = new Envelope(height);
  const row = new Uint16Array(height);
  const ratio = (sx / sy) ** 2;
  for (let z = 0; z < depth; z++) {
    for (let x = 0; x < width; x++) {
      const first = z * height * width + x;
      envelope.clear();
      for (let y = 0, i = first; y < height; y++, i += width) {
        row[y] = steps[i];
        if (row[y] !== none) envelope.add(y, row[y] * row[y] * ratio);
      }
      for (let y = 0, i = first; y < height; y++, i += width) {
        const site = envelope.lowestAt(y);
        steps[i] = site < 0 ? unreached : ((Math.abs(y - site) << 16) | row[site]) >>> 0;
      }
    }
  }
}

function alongZ(
  steps: Uint32Array,
  at: Uint8Array,
  [width, height, depth]: Triple,
  [sx, sy, sz]: Triple,
  visit: (voxel: number, distance: number) => void,
): void {
  const envelope = new Envelope(depth);
  const plane = width * height;
  const squares = new Float64Array(depth);
  for (let column = 0; column < plane; column++) {
    let last = depth - 1;
    while (last >= 0 && at[last * plane + column] === 0) last--;
    if (last < 0) continue;
    envelope.clear();
    for (let z = 0, i = column; z < depth; z++, i += plane) {
      const step = steps[i];
      if (step === unreached) continue;
      const dx = (step & none) * sx;
      const dy = (step >>> 16) * sy;
      squares[z] = dx * dx + dy * dy;
      envelope.add(z, squares[z] / (sz * sz));
    }
    for (let z = 0, i = column; z <= last; z++, i += plane) {
      if (at[i] === 0) continue;
      const site = envelope.lowestAt(z);
      const dz = (z - site) * sz;
      visit(i, site < 0 ? Infinity : Math.sqrt(squares[site] + dz * dz));
    }
  }
}

/** The lower envelope of parabolas `height + (p - site)^2`, added and asked for from left to right. */
class Envelope {
  private readonly sites: Int32Array;
  private readonly heights: Float64Array;
  /** Where a parabola becomes the lowest. */
  private readonly starts: Float64Array;
  private count = 0;
  private current = 0;

  constructor(extent: number) {
    this.sites = new Int32Array(extent);
    this.heights = new Float64Array(extent);
    this.starts = new Float64Array(extent);
  }

  clear(): void {
    this.count = 0;
    this.current = 0;
  }

  add(site: number, height: number): void {
    const { sites, heights, starts } = this;
    let count = this.count;
    let start = -Infinity;
    while (count > 0) {
      const other = sites[count - 1];
      start = ((height - heights[count - 1]) / (site - other) + site + other) / 2;
      if (start > starts[count - 1]) break;
      count--;
      start = -Infinity;
    }
    sites[count] = site;
    heights[count] = height;
    starts[count] = start;
    this.count = count + 1;
  }

  /** The site whose parabola is lowest at `position`, -1 without any. */
  lowestAt(position: number): number {
    const { starts, count } = this;
    while (this.current + 1 < count && starts[this.current + 1] < position) this.current++;
    return count === 0 ? -1 : this.sites[this.current];
  }
}
