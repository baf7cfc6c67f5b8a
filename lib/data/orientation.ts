import { UsageError } from "../errors.ts";
import type { Triple, Volume, VolumeData } from "./volume.ts";
import { affineSpacing, voxelCount } from "./volume.ts";

/** Where the world's axes lead, as the affine counts them, and where they come from. */
const AHEAD = "RAS";
const BEHIND = "LPI";
const ORDERS: readonly Triple[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

/** How a volume's axes are put in another order: new axis i is old axis `axes[i]`, run backwards where `mirrored[i]`. */
export interface Rearrangement {
  readonly axes: Triple;
  readonly mirrored: readonly [boolean, boolean, boolean];
}

/**
 * Whether three letters name an orientation: where x, y and z lead, one of right and left, of anterior and
 * posterior, of superior and inferior, in any order ("LPS" is a CT slice on a screen).
 */
export function isOrientation(letters: string): boolean {
  const world = [...letters].map(worldAxis);
  return letters.length === 3 && [0, 1, 2].every((axis) => world.includes(axis));
}

function worldAxis(letter: string): number {
  return Math.max(AHEAD.indexOf(letter), BEHIND.indexOf(letter));
}

/**
 * The orientation of a volume by its affine (voxel to RAS millimetres, 4x4 row-major). Oblique axes go by the assignment
 * to the world's axes that has the largest sum of cosines.
 */
export function orientationOf(affine: readonly number[]): string {
  const spacing = affineSpacing(affine);
  const cosine = (world: number, axis: number) => affine[4 * world + axis] / spacing[axis];
  const fit = (order: Triple) => order.reduce((sum, world, axis) => sum + Math.abs(cosine(world, axis)), 0);
  const best = ORDERS.reduce((a, b) => (fit(b) > fit(a) ? b : a));
  return best.map((world, axis) => (cosine(world, axis) < 0 ? BEHIND : AHEAD)[world]).join("");
}

/** How to turn a volume with this affine to an orientation. Throws UsageError when the letters name none. */
export function rearrangementTo(affine: readonly number[], orientation: string): Rearrangement {
  if (!isOrientation(orientation))
    throw new UsageError(`an orientation is three letters such as LPS or RAS, found "${orientation}"`);
  const from = orientationOf(affine);
  const axes = [...orientation].map((letter) => [...from].map(worldAxis).indexOf(worldAxis(letter)));
  const mirrored = axes.map((axis, i) => from[axis] !== orientation[i]);
  return { axes: [axes[0], axes[1], axes[2]], mirrored: [mirrored[0], mirrored[1], mirrored[2]] };
}

/** What undoes a rearrangement. */
export function inverse({ axes, mirrored }: Rearrangement): Rearrangement {
  const place = (axis: number) => axes.indexOf(axis);
  return {
    axes: [place(0), place(1), place(2)],
    mirrored: [mirrored[place(0)], mirrored[place(1)], mirrored[place(2)]],
  };
}

/**
 * The same voxels at the same places with their axes in another order. Where nothing changes, the volume itself;
 * else data and geometry are new, and the geometry is no longer that of a file.
 */
export function rearrange<V extends Volume<VolumeData>>(volume: V, { axes, mirrored }: Rearrangement): V {
  if (axes.every((axis, i) => axis === i && !mirrored[i])) return volume;
  const { size, geometry } = volume;
  const steps = [1, size[0], size[0] * size[1]];
  const to: Triple = [size[axes[0]], size[axes[1]], size[axes[2]]];
  const step = axes.map((axis, i) => (mirrored[i] ? -steps[axis] : steps[axis]));
  const first = axes.reduce((sum, axis, i) => sum + (mirrored[i] ? (size[axis] - 1) * steps[axis] : 0), 0);
  const data = new (volume.data.constructor as new (length: number) => VolumeData)(voxelCount(size));
  let index = 0;
  for (let z = 0; z < to[2]; z++) {
    for (let y = 0; y < to[1]; y++) {
      let from = first + z * step[2] + y * step[1];
      for (let x = 0; x < to[0]; x++, from += step[0]) data[index++] = volume.data[from];
    }
  }
  const { affine, spacing } = geometry;
  const rows = [0, 4, 8].flatMap((row) => {
    const columns = axes.map((axis, i) => (mirrored[i] ? -affine[row + axis] : affine[row + axis]));
    const shift = axes.reduce(
      (sum, axis, i) => sum + (mirrored[i] ? (size[axis] - 1) * affine[row + axis] : 0),
      0,
    );
    return [...columns, affine[row + 3] + shift];
  });
  const turned = {
    affine: [...rows, 0, 0, 0, 1],
    spacing: [spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]] as const,
  };
  return { ...volume, size: to, data, geometry: turned };
}
