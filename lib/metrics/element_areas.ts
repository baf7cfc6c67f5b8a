import type { Triple } from "../data/volume.ts";

/**
 * Corner k of a cube of eight neighbouring voxels lies at x = k & 1, y = k >> 1 & 1, z = k >> 2 & 1; a code has bit k set
 * when the voxel of that corner belongs to the mask.
 */
const at = (corner: number, axis: number) => (corner >> axis) & 1;

/** The four corners of each face of the cube, going round it. */
const faces = [0, 1, 2].flatMap((axis) =>
  [0, 1].map((side) => {
    const [a, b] = [0, 1, 2].filter((other) => other !== axis);
    return [0, 1, 3, 2].map((turn) => (side << axis) | ((turn & 1) << a) | ((turn >> 1) << b));
  }),
);

type Point = Triple;

/**
 * The area of the surface inside the cube around a point where eight voxels meet, for each of its 256 codes, in
 * the unit of `spacing` squared.
 *
 * The surface is that of marching cubes (Lorensen and Cline 1987): its vertices halve the cube's edges between inside and
 * outside, its sides lie in the cube's faces. Three choices make it the one whose areas the surface distances of
 * Nikolov et al. 2018 ("Deep learning to achieve clinically applicable segmentation of head and neck anatomy")
 * use, and FLARE22 with them: more than four corners inside count as their complement; on a face whose diagonals
 * differ, the inside corners are cut off from each other; and a polygon that is not flat is cut into the triangles
 * that have the largest area in a cube of side 1.
 */
export function elementAreas([sx, sy, sz]: Triple): Float64Array {
  normals ??= Array.from({ length: 256 }, (_, code) => triangles(code));
  return Float64Array.from(normals, (ofCode) =>
    ofCode.reduce((sum, [x, y, z]) => sum + Math.hypot(x * sy * sz, y * sx * sz, z * sx * sy), 0),
  );
}

/** Of each code, from the first call on. */
let normals: Point[][] | undefined;

/** The normals of a code's triangles in a cube of side 1, each as long as its triangle is large. */
function triangles(code: number): Point[] {
  const inside = [0, 1, 2, 3, 4, 5, 6, 7].filter((corner) => (code >> corner) & 1);
  return polygons(inside.length > 4 ? 255 - code : code).flatMap(largestTriangulation);
}

/** The closed polygons that part the corners of `code` from the others. */
function polygons(code: number): Point[][] {
  const neighbours = new Map<string, string[]>();
  const points = new Map<string, Point>();
  const middle = (a: number, b: number) => {
    const half = (axis: number) => (at(a, axis) + at(b, axis)) / 2;
    const point: Point = [half(0), half(1), half(2)];
    points.set(String(point), point);
    return String(point);
  };
  const isInside = (corner: number) => ((code >> corner) & 1) === 1;
  for (const face of faces)
    for (const [a, b] of sidesOn(face.map(isInside))) {
      const ends = [a, b].map((edge) => middle(face[edge], face[(edge + 1) % 4]));
      for (const [from, to] of [ends, ends.toReversed()])
        neighbours.set(from, [...(neighbours.get(from) ?? []), to]);
    }
  const result: Point[][] = [];
  const open = new Set(neighbours.keys());
  for (const start of open) {
    const polygon: Point[] = [];
    let next: string | undefined = start;
    while (next !== undefined) {
      open.delete(next);
      polygon.push(points.get(next) as Point);
      next = neighbours.get(next)?.find((name) => open.has(name));
    }
    result.push(polygon);
  }
  return result;
}

/** Pairs of a face's edges (edge i joins its corners i and i + 1) that a side of the surface connects. */
function sidesOn(inside: readonly boolean[]): [number, number][] {
  const crossed = [0, 1, 2, 3].filter((i) => inside[i] !== inside[(i + 1) % 4]);
  if (crossed.length < 4) return crossed.length === 0 ? [] : [[crossed[0], crossed[1]]];
  return [0, 1, 2, 3].filter((i) => inside[i]).map((i) => [(i + 3) % 4, i]);
}

function largestTriangulation(polygon: readonly Point[]): Point[] {
  let best: Point[] = [];
  for (const triangulation of triangulations(polygon, 0, polygon.length - 1))
    if (area(triangulation) > area(best) + 1e-9) best = triangulation;
  return best;
}

/** The normals of every way to cut the part of a polygon between two of its vertices into triangles. */
function triangulations(polygon: readonly Point[], from: number, to: number): Point[][] {
  if (to - from < 2) return [[]];
  const ways: Point[][] = [];
  for (let k = from + 1; k < to; k++) {
    const normal = halfCross(polygon[from], polygon[k], polygon[to]);
    for (const left of triangulations(polygon, from, k))
      for (const right of triangulations(polygon, k, to)) ways.push([normal, ...left, ...right]);
  }
  return ways;
}

const area = (triangulation: readonly Point[]) =>
  triangulation.reduce((sum, normal) => sum + Math.hypot(...normal), 0);

function halfCross(a: Point, b: Point, c: Point): Point {
  const [ux, uy, uz] = b.map((value, axis) => value - a[axis]);
  const [vx, vy, vz] = c.map((value, axis) => value - a[axis]);
  return [(uy * vz - uz * vy) / 2, (uz * vx - ux * vz) / 2, (ux * vy - uy * vx) / 2];
}
