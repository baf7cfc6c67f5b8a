import { test } from "uvu";
import * as assert from "uvu/assert";
import { codeImage, copyIntensities, floatImage, intensityBytes } from "../../lib/data/coded_image.ts";
import { zScore } from "../../lib/data/preprocess.ts";
import { Random } from "../../lib/random.ts";

const bitsOf = (image: Float32Array) => [...new Uint32Array(image.buffer, image.byteOffset, image.length)];

/** Normalised whole numbers from -1024 on, as many different ones as asked for, each at least once. */
function scan(voxels: number, levels: number): Float32Array {
  const random = new Random(1, levels);
  return zScore(
    Float32Array.from({ length: voxels }, (_, i) => (i < levels ? i : random.below(levels)) - 1024),
  );
}

for (const [levels, bytesPerVoxel] of [
  [1, 1],
  [256, 1],
  [257, 2],
  [65536, 2],
  [65537, 4],
])
  test(`an image of ${levels} values takes ${bytesPerVoxel} bytes a voxel, and every bit comes back`, () => {
    const image = scan(200_000, levels);
    const before = bitsOf(image);
    const coded = codeImage(image);
    const list = bytesPerVoxel === 4 ? 0 : 4 * levels;
    assert.is(intensityBytes(coded), 200_000 * bytesPerVoxel + list);
    assert.equal(bitsOf(floatImage(coded)), before);
    const part = new Float32Array(20).fill(7);
    copyIntensities(coded, 199_990, 200_000, part, 5);
    assert.equal([...part.subarray(0, 5), ...part.subarray(15)], new Array(10).fill(7));
    assert.equal(bitsOf(part.subarray(5, 15)), before.slice(-10));
  });

test("zeros of either sign stay apart", () => {
  const image = Float32Array.from({ length: 100 }, (_, i) => [0, -0, 1][i % 3]);
  assert.equal(bitsOf(floatImage(codeImage(image))), bitsOf(image));
});

test("an image that coding would not make smaller stays as it is", () => {
  const image = Float32Array.from({ length: 300 }, (_, i) => i);
  assert.is(codeImage(image), image);
});

test("a view into a larger array is coded by itself", () => {
  const whole = scan(1000, 10);
  const view = whole.subarray(100, 900);
  assert.equal(bitsOf(floatImage(codeImage(view))), bitsOf(view));
});

test.run();
