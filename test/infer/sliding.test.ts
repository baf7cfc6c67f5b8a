import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Triple, voxelCount } from "../../lib/data/index.ts";
import type { Predictor } from "../../lib/infer/predictor.ts";
import { Predictor as RealPredictor } from "../../lib/infer/predictor.ts";
import { predictSlices, predictVolume, type SlidingOptions } from "../../lib/infer/sliding.ts";
import { gaussianWindow, windowGrid, windowStarts } from "../../lib/infer/windows.ts";
import { deeplabv3plus } from "../../lib/models/index.ts";
import { Random } from "../../lib/random.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const classes = 3;

/** Says of each voxel what depends on its window as well, so that the order and weights of windows show. */
function makePredictor(divisor: Triple = [1, 1, 1], slices = false) {
  let windows = 0;
  const say = (image: Float32Array) => {
    const random = new Random(1, 0, windows++);
    return Float32Array.from([...image].flatMap((value) => [random.uniform(), random.uniform(), value]));
  };
  const run = (image: Float32Array) => Promise.resolve(say(image));
  const classify = (image: Float32Array) => {
    const said = say(image);
    const best = (i: number) => [0, 1, 2].reduce((a, b) => (said[3 * i + b] > said[3 * i + a] ? b : a));
    return Promise.resolve(Uint8Array.from(image, (_, i) => best(i)));
  };
  return { classes, divisor, slices, run, classify } as unknown as Predictor;
}

/** The same in one go: float32 sums of all classes of the padded volume, then the largest of each voxel. */
async function whole(
  predictor: Predictor,
  image: Float32Array,
  size: Triple,
  { overlap = 0.5, blend = "gaussian", classBias, ...options }: SlidingOptions,
): Promise<Uint8Array> {
  const window = options.patch as Triple;
  const padded = size.map((extent, axis) => Math.max(extent, window[axis]));
  const before = size.map((extent, axis) => Math.floor((padded[axis] - extent) / 2));
  const starts = padded.map((extent, axis) => windowStarts(extent, window[axis], overlap));
  const { apart } = windowGrid(size, window, overlap);
  const weights = blend === "uniform" || apart ? undefined : gaussianWindow(window);
  const sums = new Float32Array(padded[0] * padded[1] * padded[2] * classes);
  const inside = (x: number, y: number, z: number) =>
    [x, y, z].every((at, axis) => at >= before[axis] && at < before[axis] + size[axis]);
  const index = ([sx, sy]: readonly number[], x: number, y: number, z: number) => (z * sy + y) * sx + x;
  for (const z0 of starts[2])
    for (const y0 of starts[1])
      for (const x0 of starts[0]) {
        const patch = new Float32Array(voxelCount(window));
        const each = (visit: (i: number, x: number, y: number, z: number) => void) => {
          for (let z = 0, i = 0; z < window[2]; z++)
            for (let y = 0; y < window[1]; y++)
              for (let x = 0; x < window[0]; x++, i++) visit(i, x0 + x, y0 + y, z0 + z);
        };
        each((i, x, y, z) => {
          if (inside(x, y, z)) patch[i] = image[index(size, x - before[0], y - before[1], z - before[2])];
        });
        const said = await predictor.run(patch, [1, window[2], window[1], window[0]]);
        each((i, x, y, z) => {
          for (let c = 0; c < classes; c++)
            sums[index(padded, x, y, z) * classes + c] += (weights?.[i] ?? 1) * said[i * classes + c];
        });
      }
  const labels: number[] = [];
  for (let z = 0; z < size[2]; z++)
    for (let y = 0; y < size[1]; y++)
      for (let x = 0; x < size[0]; x++) {
        const at = index(padded, x + before[0], y + before[1], z + before[2]) * classes;
        const score = (c: number) => sums[at + c] * Math.exp(classBias?.[c] ?? 0);
        labels.push([0, 1, 2].reduce((a, b) => (score(b) > score(a) ? b : a)));
      }
  return Uint8Array.from(labels);
}

const size: Triple = [9, 7, 11];
const random = new Random(9, 0);
const image = Float32Array.from({ length: voxelCount(size) }, () => random.uniform());
const options: Record<string, SlidingOptions> = {
  "half overlapping volumes": { patch: [4, 4, 4] },
  "volumes that overlap more": { patch: [4, 7, 4], overlap: 0.75, blend: "uniform" },
  "volumes side by side along z": { patch: [4, 4, 4], overlap: 0 },
  "one window along z": { patch: [4, 4, 11] },
  "whole slices": { patch: [9, 7, 1] },
  "parts of slices": { patch: [4, 4, 1] },
  "windows larger than the volume": { patch: [16, 4, 16] },
  "one window larger than the volume": { patch: [16, 16, 16] },
  "windows that overhang in a slice": { patch: [16, 16, 2], overlap: 0.5 },
};
for (const [what, given] of Object.entries(options)) {
  test(`streaming gives the labels of the whole, ${what}`, async () => {
    for (const classBias of [undefined, [0, 0.6, -0.3]]) {
      const expected = await whole(makePredictor(), image, size, { ...given, classBias });
      const found = await predictVolume(makePredictor(), image, size, { ...given, classBias });
      assert.is(found.length, voxelCount(size));
      assert.equal(found, expected);
      assert.is(new Set(found).size, 3);
    }
  });
}

test("no more of the image is read, and no more labels are held, than windows are deep", async () => {
  const extent: Triple = [8, 8, 40];
  for (const [patch, lead] of [
    [[8, 8, 1], 2],
    [[4, 4, 8], 16],
    [[8, 8, 8], 12],
  ] as const) {
    let read = 0;
    let closed = false;
    async function* slices() {
      try {
        for (; read < extent[2]; read++) yield await Promise.resolve(new Float32Array(64));
      } finally {
        closed = true;
      }
    }
    let yielded = 0;
    for await (const labels of predictSlices(makePredictor(), slices(), extent, { patch })) {
      assert.is(labels.length, 64);
      yielded++;
      assert.ok(read - yielded <= lead, `window ${patch.join("x")}: ${read} read, ${yielded} yielded`);
    }
    assert.is(yielded, extent[2]);
    assert.ok(closed);
  }
});

test("a network of slices takes a whole volume slice by slice, one of volumes at once", async () => {
  for (const slices of [true, false]) {
    const divisor: Triple = [4, 4, slices ? 1 : 4];
    const patch: Triple = [12, 8, slices ? 1 : 12];
    const expected = await whole(makePredictor(divisor), image, size, { patch });
    const found = await predictVolume(makePredictor(divisor, slices), image, size, { patch: "whole" });
    assert.equal(found, expected);
  }
});

test("the device's classes are those of the probabilities, ties and bias 0 included", async () => {
  const network = deeplabv3plus({ classes: 4, baseChannels: 4, seed: 0 });
  const predictor = new RealPredictor([network], openDevice("cpu"));
  const extent: Triple = [20, 33, 3];
  const voxels = Float32Array.from({ length: voxelCount(extent) }, () => 10 * random.normal());
  const patch: Triple = [32, 48, 1];
  const labels = await predictVolume(predictor, voxels, extent, { patch });
  // A bias that all classes share changes nothing, but takes the way over the host's sums.
  const summed = await predictVolume(predictor, voxels, extent, { patch, classBias: [1, 1, 1, 1] });
  assert.equal(labels, summed);
  assert.ok(new Set(labels).size > 1);
  await predictor.dispose();
});

test("the event loop runs while windows are added up", async () => {
  const window: Triple = [64, 64, 32];
  const large: Triple = [64, 64, 64];
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const said = new Float32Array(voxelCount(window) * 14).fill(0.1);
  const predictor = {
    classes: 14,
    divisor: [1, 1, 1],
    run: () => Promise.resolve(said),
  } as unknown as Predictor;
  await predictVolume(predictor, new Float32Array(voxelCount(large)), large, { patch: window });
  clearInterval(timer);
  assert.ok(turns >= 3, `${turns} turns`);
});

test("a failing or aborted window ends the prediction, and no other is under way then", async () => {
  let running = 0;
  let calls = 0;
  const controller = new AbortController();
  const failing = (at: number, fail: () => void) => {
    calls = 0;
    const run = async (patch: Float32Array) => {
      running++;
      const mine = ++calls;
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
      if (mine === at) fail();
      return new Float32Array(patch.length * classes);
    };
    return { classes, divisor: [1, 1, 1], run } as unknown as Predictor;
  };
  const rejects = async (predictor: Predictor, pattern: RegExp) => {
    try {
      await predictVolume(predictor, image, size, { patch: [4, 4, 4], signal: controller.signal });
      assert.unreachable();
    } catch (error) {
      assert.match(String(error), pattern);
    }
    assert.is(running, 0);
  };
  const fail = () => {
    throw new Error("window three");
  };
  await rejects(failing(3, fail), /window three/);
  assert.is(calls, 3);
  await rejects(
    failing(2, () => controller.abort()),
    /AbortError/,
  );
  assert.is(calls, 2);
});

test.run();
