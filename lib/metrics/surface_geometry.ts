import type { Triple } from "../data/volume.ts";
import type { Box } from "./overlap.ts";

/** One class of a label map [z, y, x] of `size` (x, y, z), seen through `box`: what lies outside of it is background. */
export interface Mask {
  labels: Uint8Array;
  size: Triple;
  label: number;
  box: Box;
}

/** What lies beyond the edge of the volume when surface voxels are sought: background (0) or the mask itself (1). */
export type BorderValue = 0 | 1;

/** Extents of a box, (x, y, z). */
export function extents({ from, to }: Box, margin = 0): Triple {
  return [to[0] - from[0] + margin, to[1] - from[1] + margin, to[2] - from[2] + margin];
}

/** The smallest box around all of those given; undefined without any. */
export function enclosing(...boxes: readonly (Box | undefined)[]): Box | undefined {
  return boxes.reduce((a, b) => {
    if (!a || !b) return a ?? b;
    const first = (axis: number) => Math.min(a.from[axis], b.from[axis]);
    const last = (axis: number) => Math.max(a.to[axis], b.to[axis]);
    return { from: [first(0), first(1), first(2)], to: [last(0), last(1), last(2)] };
  }, undefined);
}

/** Calls `visit(i, local, x, y, z)` for every voxel of the mask: its index in the volume and in the box, and its place there. */
function forEachVoxel(
  { labels, size, label, box }: Mask,
  visit: (voxel: number, local: number, x: number, y: number, z: number) => void,
): void {
  const [width, height, depth] = extents(box);
  let local = 0;
  for (let z = 0; z < depth; z++) {
    for (let y = 0; y < height; y++) {
      let i = ((box.from[2] + z) * size[1] + box.from[1] + y) * size[0] + box.from[0];
      for (let x = 0; x < width; x++, i++, local++) if (labels[i] === label) visit(i, local, x, y, z);
    }
  }
}

/**
 * 1 at the voxels of the mask that one of their six neighbours does not belong to, 0 elsewhere, over the box. It is
 * the mask without its erosion by the 6-neighbourhood; `border` is that erosion's border value.
 */
export function surfaceVoxels(mask: Mask, border: BorderValue): Uint8Array {
  const { labels, size, label, box } = mask;
  const [width, height, depth] = extents(box);
  const surface = new Uint8Array(width * height * depth);
  const strides = [1, size[0], size[0] * size[1]];
  const edges = [width - 1, height - 1, depth - 1];
  // Beyond a side of the box that is also one of the volume lies the border, beyond the others background.
  const low = box.from.map((from) => (from === 0 ? border : 0));
  const high = box.to.map((to, axis) => (to === size[axis] ? border : 0));
  const isSurface = (i: number, place: number, axis: number) =>
    (place === 0 ? low[axis] === 0 : labels[i - strides[axis]] !== label) ||
    (place === edges[axis] ? high[axis] === 0 : labels[i + strides[axis]] !== label);
  forEachVoxel(mask, (i, local, x, y, z) => {
    if (isSurface(i, x, 0) || isSurface(i, y, 1) || isSurface(i, z, 2)) surface[local] = 1;
  });
  return surface;
}

/**
 * The codes of the points between voxels, over a grid one larger than the box along each axis: which of the eight
 * voxels around a point belong to the mask (`elementAreas` says what surface that makes). 0 both where none of
 * them does and where all do. Outside of the box, and so of the volume, is background.
 */
export function surfaceElements(mask: Mask): Uint8Array {
  const [width, height, depth] = extents(mask.box, 1);
  const codes = new Uint8Array(width * height * depth);
  const plane = width * height;
  forEachVoxel(mask, (_, __, x, y, z) => {
    // The voxel is the last corner of the point before it and the first of the point behind it.
    const point = z * plane + y * width + x;
    codes[point] |= 128;
    codes[point + 1] |= 64;
    codes[point + width] |= 32;
    codes[point + width + 1] |= 16;
    codes[point + plane] |= 8;
    codes[point + plane + 1] |= 4;
    codes[point + plane + width] |= 2;
    codes[point + plane + width + 1] |= 1;
  });
  for (let i = 0; i < codes.length; i++) if (codes[i] === 255) codes[i] = 0;
  return codes;
}
