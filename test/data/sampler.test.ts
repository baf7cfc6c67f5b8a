import { test } from "uvu";
import * as assert from "uvu/assert";
import { PatchSampler, type SampledVolume } from "../../lib/data/sampler.ts";
import type { Triple } from "../../lib/data/volume.ts";

/** Voxel (x, y, z) of volume v holds 1 + x + 100 y + 10000 z, plus v * 1e6; never 0, so that padding is told apart. */
function marked(size: Triple, v: number, labelled = true): SampledVolume {
  const image = new Float32Array(size[0] * size[1] * size[2]);
  let i = 0;
  for (let z = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      for (let x = 0; x < size[0]; x++) image[i++] = 1 + x + 100 * y + 10000 * z + v * 1e6;
    }
  }
  return labelled ? { image, label: Uint8Array.from(image, (m) => m % 3), size } : { image, size };
}

const volumes = [marked([9, 8, 7], 0), marked([6, 9, 10], 1), marked([12, 6, 6], 2)];
const patch: Triple = [4, 5, 3];
const options = { patch, seed: 11, stream: 0, foreground: 0 };
const patchVoxels = 60;

const draw = (sampler: PatchSampler, step: number, count: number) => {
  const image = new Float32Array(count * patchVoxels).fill(-1);
  const label = new Uint8Array(count * patchVoxels).fill(99);
  sampler.sample(step, count, image, label);
  return { image, label };
};

test("a patch is the box of its volume at some offset, and its label the same box", () => {
  const { image, label } = draw(new PatchSampler(volumes, options), 0, 30);
  for (let p = 0; p < 30; p++) {
    const at = p * patchVoxels;
    const first = image[at];
    let i = at;
    for (let z = 0; z < 3; z++) {
      for (let y = 0; y < 5; y++) {
        for (let x = 0; x < 4; x++) {
          assert.is(image[i], first + x + 100 * y + 10000 * z);
          assert.is(label[i], image[i] % 3);
          i++;
        }
      }
    }
  }
});

test("batches depend on (seed, stream, step) alone, not on what was drawn before", () => {
  const running = new PatchSampler(volumes, options);
  const batches = [0, 1, 2, 3, 4].map((step) => draw(running, step, 2));
  const resumed = new PatchSampler(volumes, options);
  assert.equal(draw(resumed, 4, 2), batches[4]);
  assert.equal(draw(resumed, 1, 2), batches[1]);
  assert.not.equal(draw(new PatchSampler(volumes, { ...options, stream: 1 }), 1, 2), batches[1]);
  assert.not.equal(draw(new PatchSampler(volumes, { ...options, seed: 12 }), 1, 2), batches[1]);
});

test("every volume is drawn once per epoch, in an order that changes", () => {
  const many = Array.from({ length: 5 }, (_, v) => marked([4, 5, 3], v));
  const { image } = draw(new PatchSampler(many, options), 0, 40);
  const orders = Array.from({ length: 8 }, (_, epoch) =>
    Array.from({ length: 5 }, (_, i) => Math.floor(image[(epoch * 5 + i) * patchVoxels] / 1e6)),
  );
  for (const order of orders) assert.equal(order.toSorted(), [0, 1, 2, 3, 4]);
  assert.ok(new Set(orders.map(String)).size > 4);
});

test("offsets reach both borders", () => {
  const sampler = new PatchSampler([marked([6, 6, 4], 0)], options);
  const { image } = draw(sampler, 0, 200);
  const starts = new Set(Array.from({ length: 200 }, (_, p) => image[p * patchVoxels]));
  assert.is(starts.size, 3 * 2 * 2);
});

test("a volume shorter than the patch is padded with zeros, the smaller half before it", () => {
  const { image, label } = draw(new PatchSampler([marked([1, 5, 2], 0)], options), 0, 1);
  const at = (x: number, y: number, z: number) => image[(z * 5 + y) * 4 + x];
  for (let z = 0; z < 3; z++) {
    for (let y = 0; y < 5; y++) {
      for (let x = 0; x < 4; x++) {
        const expected = x === 1 && z < 2 ? 1 + 100 * y + 10000 * z : 0;
        assert.is(at(x, y, z), expected, `voxel ${x},${y},${z}`);
        if (expected === 0) assert.is(label[(z * 5 + y) * 4 + x], 0);
      }
    }
  }
});

test("foreground patches hold their voxel in the middle unless the border forbids it, every class alike", () => {
  const volume = marked([20, 20, 20], 0);
  const label = new Uint8Array(8000);
  const index = (x: number, y: number, z: number) => (z * 20 + y) * 20 + x;
  for (let x = 5; x < 15; x++) for (let y = 5; y < 15; y++) label[index(x, y, 10)] = 1;
  label[index(19, 0, 3)] = 2;
  const sampler = new PatchSampler([{ ...volume, label }], { ...options, foreground: 1 });
  const { label: drawn } = draw(sampler, 0, 400);
  let second = 0;
  for (let p = 0; p < 400; p++) {
    const labels = drawn.subarray(p * patchVoxels, (p + 1) * patchVoxels);
    if (labels.includes(2)) second++;
    else assert.is(labels[(1 * 5 + 2) * 4 + 2], 1);
  }
  assert.ok(second > 150 && second < 250, `class 2 in ${second} of 400`);
  const share = new PatchSampler([{ ...volume, label }], { ...options, foreground: 0.25 });
  const hits = draw(share, 0, 2000).label;
  let centred = 0;
  for (let p = 0; p < 2000; p++)
    if (hits.subarray(p * patchVoxels, (p + 1) * patchVoxels).includes(2)) centred++;
  assert.ok(
    centred > 190 && centred < 330,
    `class 2 in ${centred} of 2000: a quarter of draws, half of them class 2`,
  );
});

test("misuse is named", () => {
  assert.throws(() => new PatchSampler([], options), /at least one volume/);
  assert.throws(() => new PatchSampler(volumes, { ...options, foreground: 2 }), /between 0 and 1, found 2/);
  assert.throws(() => new PatchSampler(volumes, { ...options, patch: [0, 4, 4] }), /found 0 x 4 x 4/);
  assert.throws(
    () => new PatchSampler([{ ...volumes[0], size: [9, 9, 9] }], options),
    /size 9 x 9 x 9 holds 729 voxels, found 504/,
  );
  const sampler = new PatchSampler([marked([9, 9, 9], 0, false)], options);
  assert.throws(() => sampler.sample(0, 1, new Float32Array(59)), /needs 60 values, found 59/);
  assert.throws(() => sampler.sample(0, 1, new Float32Array(60), new Uint8Array(60)), /has no label/);
});

test.run();
