import { test } from "uvu";
import * as assert from "uvu/assert";
import { boxMask } from "../../lib/data/boxes.ts";
import type { Triple } from "../../lib/data/volume.ts";
import { ShapeError } from "../../lib/errors.ts";
import { Random } from "../../lib/random.ts";

function maskOf(size: Triple, boxes: number, seed: number): Uint8Array {
  const mask = new Uint8Array(size[0] * size[1] * size[2]).fill(7);
  boxMask(mask, size, boxes, new Random(seed));
  return mask;
}

const shareOf = (mask: Uint8Array) => mask.reduce((sum, value) => sum + value, 0) / mask.length;

for (const size of [
  [64, 48, 1],
  [32, 32, 24],
] as const) {
  test(`one box takes a quarter to a half of ${size.join("x")} and is a box`, () => {
    const shares = Array.from({ length: 40 }, (_, seed) => shareOf(maskOf(size, 1, seed)));
    // Extents are rounded to voxels.
    assert.ok(
      shares.every((share) => share > 0.2 && share < 0.55),
      shares.join(),
    );
    assert.ok(Math.max(...shares) - Math.min(...shares) > 0.1, "all boxes are of one size");
    const mask = maskOf(size, 1, 3);
    const inside = [...mask.keys()].filter((index) => mask[index] === 1);
    const places = [
      inside.map((index) => index % size[0]),
      inside.map((index) => Math.floor(index / size[0]) % size[1]),
      inside.map((index) => Math.floor(index / (size[0] * size[1]))),
    ];
    const extents = places.map((along) => Math.max(...along) - Math.min(...along) + 1);
    assert.is(extents[0] * extents[1] * extents[2], inside.length);
  });

  test(`three boxes of ${size.join("x")} cover no more than one does, and less where they cancel`, () => {
    const shares = Array.from({ length: 40 }, (_, seed) => shareOf(maskOf(size, 3, seed)));
    assert.ok(
      shares.every((share) => share > 0 && share < 0.55),
      shares.join(),
    );
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    assert.ok(mean > 0.2 && mean < 0.4, `mean share ${mean}`);
  });
}

test("a seed decides the mask; no box leaves it empty; a wrong length is refused", () => {
  assert.equal(maskOf([16, 16, 4], 3, 1), maskOf([16, 16, 4], 3, 1));
  assert.not.equal(maskOf([16, 16, 4], 3, 1), maskOf([16, 16, 4], 3, 2));
  assert.is(shareOf(maskOf([16, 16, 4], 0, 1)), 0);
  assert.throws(
    () => boxMask(new Uint8Array(3), [2, 2, 1], 1, new Random(0)),
    (error: unknown) => error instanceof ShapeError && /2 x 2 x 1 voxels/.test(error.message),
  );
});

test.run();
