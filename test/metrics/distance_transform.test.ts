import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Triple } from "../../lib/data/volume.ts";
import { distancesTo, distanceTransform } from "../../lib/metrics/distance_transform.ts";

/** Distance between two voxels of a volume, by its definition. */
function apart(a: number, b: number, [width, height]: Triple, spacing: Triple): number {
  const place = (i: number) => [i % width, Math.floor(i / width) % height, Math.floor(i / (width * height))];
  const [p, q] = [place(a), place(b)];
  return Math.hypot(...p.map((value, axis) => (value - q[axis]) * spacing[axis]));
}

const extent = fc.integer({ min: 1, max: 9 });
const step = fc.constantFrom(0.3, 0.7265625, 1, 2, 5);
const volumes = fc.tuple(extent, extent, extent).chain((size) => {
  const voxels = size[0] * size[1] * size[2];
  const seeds = (share: number) =>
    fc
      .array(fc.integer({ min: 1, max: 100 }), { minLength: voxels, maxLength: voxels })
      .map((draws) => Uint8Array.from(draws, (draw) => (draw <= share ? draw : 0)));
  return fc.tuple(fc.constant(size as Triple), fc.constantFrom(1, 5, 30, 90).chain(seeds));
});

test("distances are those to the nearest of all seeds", () => {
  fc.assert(
    fc.property(volumes, fc.tuple(step, step, step), ([size, mask], spacing) => {
      const seeds = [...mask.keys()].filter((i) => mask[i] !== 0);
      const found = distanceTransform(mask, size, spacing);
      for (const [i, distance] of found.entries()) {
        const expected = Math.min(...seeds.map((seed) => apart(i, seed, size, spacing)));
        if (seeds.length === 0) assert.is(distance, Infinity);
        else assert.ok(Math.abs(distance - expected) <= 1e-12, `${distance} against ${expected}`);
      }
    }),
    { numRuns: 200 },
  );
});

test("a distance along one axis or of a 3-4-5 triangle is exact", () => {
  const size: Triple = [5, 6, 4];
  const seeds = new Uint8Array(120);
  seeds[0] = 1;
  const distances = distanceTransform(seeds, size, [0.75, 1, 2]);
  assert.is(distances[3 * 30], 6);
  assert.is(distances[4], 3);
  assert.is(distances[4 * 5 + 4], 5);
});

test("only the voxels asked for are visited, once each", () => {
  const seeds = Uint8Array.of(1, 0, 0, 0, 0, 0);
  const visits: [number, number][] = [];
  const at = Uint8Array.of(0, 0, 7, 0, 0, 7);
  distancesTo(seeds, at, [3, 2, 1], [1, 1, 1], (voxel, distance) => visits.push([voxel, distance]));
  visits.sort(([a], [b]) => a - b);
  assert.equal(visits, [
    [2, 2],
    [5, Math.sqrt(5)],
  ]);
});

test("volumes and spacings that make no sense are refused", () => {
  const volume = new Uint8Array(6);
  assert.throws(() => distanceTransform(volume, [2, 2, 2], [1, 1, 1]), /2 x 2 x 2 = 8 voxels.*found 6/);
  assert.throws(() => distanceTransform(volume, [3, 2, 1], [1, 0, 1]), /positive spacings, found 1 x 0 x 1/);
  assert.throws(() => distanceTransform(new Uint8Array(65535), [65535, 1, 1], [1, 1, 1]), /below 65535/);
});

test.run();
