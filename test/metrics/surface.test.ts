import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Triple } from "../../lib/data/volume.ts";
import { elementAreas } from "../../lib/metrics/element_areas.ts";
import { surfaceScores, summarizeSurface } from "../../lib/metrics/surface.ts";
import { elementDistances, type Spread, voxelDistances } from "../../lib/metrics/surface_distances.ts";
import { elementMeasures, surfaceDice, voxelMeasures } from "../../lib/metrics/surface_measures.ts";

const close = (found: number, expected: number, what = "") =>
  assert.ok(
    Math.abs(found - expected) <= 1e-12 * Math.max(1, Math.abs(expected)),
    `${what} ${found} against ${expected}`,
  );

/** A map that holds `label` in a box, first inclusive and last exclusive. */
function block(size: Triple, from: Triple, to: Triple, label = 1): Uint8Array {
  const labels = new Uint8Array(size[0] * size[1] * size[2]);
  for (let z = from[2]; z < to[2]; z++)
    for (let y = from[1]; y < to[1]; y++)
      labels.fill(label, (z * size[1] + y) * size[0] + from[0], (z * size[1] + y) * size[0] + to[0]);
  return labels;
}

const pairOf = (ref: Uint8Array, pred: Uint8Array, size: Triple, spacing: Triple = [1, 1, 1]) => ({
  ref,
  pred,
  size,
  spacing,
  label: 1,
  box: { from: [0, 0, 0] as Triple, to: size },
});

const total = ({ weights }: Spread) => weights.reduce((a, b) => a + b, 0);

test("areas of single codes", () => {
  const areas = elementAreas([2, 3, 5]);
  assert.is(areas[0], 0);
  assert.is(areas[255], 0);
  close(areas[0b00001111], 6, "a plane across z:");
  close(areas[0b00110011], 10, "a plane across y:");
  close(areas[0b01010101], 15, "a plane across x:");
  // The triangle between the middles of three edges that meet: half the cross product of (1, 0, -2.5) and (0, 1.5, -2.5).
  close(areas[1], Math.hypot(3.75, 2.5, 1.5) / 2, "a corner:");
  close(areas[0b00000011], 2 * Math.hypot(1.5, 2.5), "an edge along x:");
  // Inside corners are cut off from each other on a face with two diagonals, also from the other side.
  close(areas[0b00000110], 2 * areas[1], "two corners across a face:");
  for (let code = 0; code < 256; code++) close(areas[255 - code], areas[code], `${code}:`);
  const cube = elementAreas([1, 1, 1]);
  // Three corners in an L: a triangle of half the face, and a trapezoid.
  close(cube[0b00000111], 1 / 2 + (3 * Math.sqrt(3)) / 8, "an L:");
  // A corner and its three neighbours: a regular hexagon of side sqrt(1/2).
  close(cube[0b00010111], (3 * Math.sqrt(3)) / 4, "a hexagon:");
});

test("the surface of a block: faces, bevelled edges and corners", () => {
  const size: Triple = [6, 5, 7];
  const labels = block(size, [1, 0, 2], [5, 5, 5]);
  const { refToPred } = elementDistances(pairOf(labels, labels, size));
  const [a, b, c] = [3, 4, 2];
  const area = 2 * (a * b + b * c + c * a) + 4 * (a + b + c) * Math.SQRT1_2 + Math.sqrt(3);
  close(total(refToPred), area);
  assert.equal(Array.from(refToPred.distances), [0]);
});

test("two single voxels three steps apart, counted by hand", () => {
  const size: Triple = [8, 3, 3];
  const pair = pairOf(block(size, [1, 1, 1], [2, 2, 2]), block(size, [4, 1, 1], [5, 2, 2]), size, [2, 1, 1]);
  // Of a voxel's eight elements four lie 2 and four 3 steps of 2 mm from the other's.
  const elements = elementDistances(pair);
  const measures = elementMeasures(elements);
  close(measures.asdRefToPred, 5);
  close(measures.asdPredToRef, 5);
  assert.equal([measures.hd95, measures.hd], [6, 6]);
  assert.equal(
    [3.9, 4, 5.9, 6].map((tolerance) => surfaceDice(elements, tolerance)),
    [0, 0.5, 0.5, 1],
  );
  const { asdRefToPred, assd, hd95, hd } = voxelMeasures(voxelDistances(pair, 0));
  assert.equal([asdRefToPred, assd, hd95, hd], [6, 6, 6, 6]);
});

test("a shifted slab is off by its shift; whether the volume's edge is surface depends on the border value", () => {
  const size: Triple = [4, 3, 12];
  const pair = pairOf(
    block(size, [0, 0, 2], [4, 3, 7]),
    block(size, [0, 0, 3], [4, 3, 8]),
    size,
    [1, 1, 2.5],
  );
  const inner = voxelDistances(pair, 1);
  assert.equal([total(inner.refToPred), total(inner.predToRef)], [24, 24]);
  const found = voxelMeasures(inner);
  for (const [name, value] of Object.entries(found)) assert.is(value, 2.5, name);
  const outer = voxelDistances(pair, 0);
  // All but the two voxels in the middle of each of the three inner slices.
  assert.is(total(outer.refToPred), 60 - 3 * 2);
  // The twelve of the first slice are a slice away, the two in the middle of the last one step from its rim.
  close(voxelMeasures(outer).asdRefToPred, (12 * 2.5 + 2) / 54);
  // A mask that fills the volume has no surface when what lies beyond belongs to it.
  const full = pairOf(new Uint8Array(144).fill(1), pair.pred, size);
  assert.ok(Object.values(voxelMeasures(voxelDistances(full, 1))).every(Number.isNaN));
});

test("percentiles and means in the conventions that differ", () => {
  const spread = (distances: number[], weights: number[]): Spread => ({
    distances: Float64Array.from(distances),
    weights: Float64Array.from(weights),
  });
  const distances = { refToPred: spread([0, 2], [3, 1]), predToRef: spread([0, 4], [1, 1]) };
  const voxels = voxelMeasures(distances);
  assert.is(voxels.asdRefToPred, 0.5);
  assert.is(voxels.asdPredToRef, 2);
  assert.is(voxels.assdMeanOfMeans, 1.25);
  assert.is(voxels.assd, 1);
  // Of 0 0 0 0 2 4 the place 4.75; of 0 4 the place 0.95.
  close(voxels.hd95, 3.5);
  close(voxels.hd95Directed, 3.8);
  assert.is(voxels.hd, 4);
  const heavy = { refToPred: spread([0, 2], [95, 5]), predToRef: spread([1, 3], [94, 6]) };
  assert.is(elementMeasures(heavy).hd95, 3);
  assert.is(elementMeasures({ ...heavy, predToRef: heavy.refToPred }).hd95, 0);
  assert.is(surfaceDice(distances, 2), 5 / 6);
});

const maps = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }))
  .chain((size) => {
    const voxels = size[0] * size[1] * size[2];
    const labels = fc.uint8Array({ min: 0, max: 2, minLength: voxels, maxLength: voxels });
    return fc.tuple(fc.constant(size as Triple), labels, labels, fc.constantFrom(0 as const, 1 as const));
  });

test("surfaces and distances agree with their definitions, voxel by voxel", () => {
  const spacing: Triple = [0.5, 1.25, 2];
  const areas = elementAreas(spacing);
  fc.assert(
    fc.property(maps, ([size, ref, pred, border]) => {
      const inVolume = (place: readonly number[]) => place.every((p, axis) => p >= 0 && p < size[axis]);
      const has = (labels: Uint8Array, place: readonly number[], beyond: boolean) =>
        inVolume(place) ? labels[(place[2] * size[1] + place[1]) * size[0] + place[0]] === 1 : beyond;
      const grid: Triple[] = [];
      for (let z = 0; z <= size[2]; z++)
        for (let y = 0; y <= size[1]; y++) for (let x = 0; x <= size[0]; x++) grid.push([x, y, z]);
      const steps = [0, 1, 2].flatMap((axis) =>
        [-1, 1].map((by) => [0, 1, 2].map((a) => (a === axis ? by : 0))),
      );
      const voxels = (labels: Uint8Array) =>
        grid
          .filter((p) => has(labels, p, false))
          .filter((p) =>
            steps.some(
              (by) =>
                !has(
                  labels,
                  p.map((v, i) => v + by[i]),
                  border === 1,
                ),
            ),
          )
          .map((place) => ({ place, weight: 1 }));
      const elements = (labels: Uint8Array) =>
        grid
          .map((place) => {
            const corner = (k: number) => place.map((v, axis) => v - 1 + ((k >> axis) & 1));
            const code = [0, 1, 2, 3, 4, 5, 6, 7].reduce(
              (sum, k) => sum + (has(labels, corner(k), false) ? 1 << k : 0),
              0,
            );
            return { place, weight: areas[code] };
          })
          .filter(({ weight }) => weight > 0);
      const check = (found: Spread, from: ReturnType<typeof voxels>, to: ReturnType<typeof voxels>) => {
        const distance = (p: Triple) =>
          Math.min(...to.map(({ place }) => Math.hypot(...p.map((v, i) => (v - place[i]) * spacing[i]))));
        close(
          total(found),
          from.reduce((sum, { weight }) => sum + weight, 0),
        );
        const expected = from.reduce((sum, { place, weight }) => sum + weight * distance(place), 0);
        close(
          found.distances.reduce((sum, d, i) => sum + d * found.weights[i], 0),
          expected,
        );
        close(
          found.distances[found.distances.length - 1],
          Math.max(...from.map(({ place }) => distance(place))),
        );
      };
      const [score] = surfaceScores(ref, pred, size, 3, { spacing, tolerance: 1, border });
      const present = [ref, pred].filter((labels) => labels.includes(1)).length;
      if (present < 2) {
        assert.is(score.nsd, present === 0 ? 1 : 0);
        assert.ok(Object.values({ ...score.elements, ...score.voxels }).every(Number.isNaN));
        return;
      }
      const pair = pairOf(ref, pred, size, spacing);
      const byElement = elementDistances(pair);
      check(byElement.refToPred, elements(ref), elements(pred));
      check(byElement.predToRef, elements(pred), elements(ref));
      // The tight box that the scores use changes nothing.
      close(score.elements.asdRefToPred, elementMeasures(byElement).asdRefToPred);
      close(score.nsd, surfaceDice(byElement, 1));
      const [refVoxels, predVoxels] = [voxels(ref), voxels(pred)];
      if (refVoxels.length === 0 || predVoxels.length === 0) {
        assert.ok(Object.values(score.voxels).every(Number.isNaN));
        return;
      }
      const byVoxel = voxelDistances(pair, border);
      check(byVoxel.refToPred, refVoxels, predVoxels);
      check(byVoxel.predToRef, predVoxels, refVoxels);
      close(score.voxels.hd95, voxelMeasures(byVoxel).hd95);
    }),
    { numRuns: 150 },
  );
});

test("means leave out what is not defined and say how often it is", () => {
  const size: Triple = [4, 1, 1];
  const options = { spacing: [1, 1, 1] as Triple, tolerance: 1 };
  const scores = (ref: number[], pred: number[]) => [
    ...surfaceScores(Uint8Array.from(ref), Uint8Array.from(pred), size, 3, options),
  ];
  const { classes, mean } = summarizeSurface([
    scores([1, 0, 0, 2], [0, 0, 1, 2]),
    scores([1, 0, 0, 0], [0, 0, 0, 0]),
  ]);
  assert.equal([classes[0].defined, classes[1].defined, mean.defined], [1, 1, 2]);
  assert.is(classes[0].voxels.hd, 2);
  assert.is(classes[1].voxels.hd, 0);
  assert.is(classes[1].nsd, 1);
  assert.is(mean.voxels.hd, 1);
  assert.throws(
    () => [...surfaceScores(new Uint8Array(3), new Uint8Array(4), size, 2, options)],
    /found 3 in/,
  );
});

test.run();
