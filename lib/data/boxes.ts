import { ShapeError } from "../errors.ts";
import type { Random } from "../random.ts";
import { type Triple, voxelCount } from "./volume.ts";

/** The volumes of the boxes of a mask add up to a share of the patch between these. */
const least = 0.25;
const most = 0.5;

/**
 * A mask `[z, y, x]` for CutMix, 1 inside of `boxes` random boxes: each turns over what it covers, so that two of them cancel where
 * they overlap, as French et al. (2020) draw them. Their extents differ at random, their places are uniform within the patch.
 * Along an axis of one voxel they have that one.
 */
export function boxMask(target: Uint8Array, size: Triple, boxes: number, random: Random): void {
  if (target.length !== voxelCount(size))
    throw new ShapeError(`a mask of ${size.join(" x ")} voxels has as many bytes, found ${target.length}`);
  target.fill(0);
  const axes = size.filter((extent) => extent > 1).length;
  for (let box = 0; box < boxes; box++) {
    const volume = random.between(least, most);
    const cuts = Array.from({ length: Math.max(0, axes - 1) }, () => random.uniform()).sort((a, b) => a - b);
    // The volume is shared out among the axes by the gaps between the cuts, which add up to 1.
    const gaps = [...cuts, 1].map((cut, index) => cut - (index === 0 ? 0 : cuts[index - 1]));
    const ranges = size.map((extent): [number, number] => {
      if (extent === 1) return [0, 1];
      const share = volume ** (gaps.pop() as number) * boxes ** (-1 / axes);
      const length = Math.min(extent, Math.round(share * extent));
      const start = random.below(extent - length + 1);
      return [start, start + length];
    });
    toggle(target, size, ranges);
  }
}

function toggle(target: Uint8Array, size: Triple, [x, y, z]: readonly [number, number][]): void {
  for (let k = z[0]; k < z[1]; k++)
    for (let j = y[0]; j < y[1]; j++)
      for (let i = x[0]; i < x[1]; i++) target[(k * size[1] + j) * size[0] + i] ^= 1;
}
