import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Triple } from "../../lib/data/index.ts";
import { biasFactors } from "../../lib/infer/class_bias.ts";
import type { Predictor } from "../../lib/infer/predictor.ts";
import { predictVolume } from "../../lib/infer/sliding.ts";
import { Random } from "../../lib/random.ts";

const classes = 4;

/** Logits that depend on the intensity alone, so that every window says the same of a voxel. */
const logitsOf = (value: number) =>
  Array.from({ length: classes }, (_, c) => 2 * Math.sin(7 * value * (c + 1)));

const softmaxOf = (logits: readonly number[]) => {
  const powers = logits.map(Math.exp);
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
};

const predictor = {
  classes,
  divisor: [1, 1, 1],
  run: (image: Float32Array) =>
    Promise.resolve(Float32Array.from([...image].flatMap((value) => softmaxOf(logitsOf(value))))),
  classify: (image: Float32Array) =>
    Promise.resolve(Uint8Array.from(image, (value) => argmax(softmaxOf(logitsOf(value))))),
} as unknown as Predictor;

const size: Triple = [9, 7, 5];
const random = new Random(5, 0);
const image = Float32Array.from({ length: 9 * 7 * 5 }, () => random.uniform());
const argmax = (values: readonly number[]) => values.indexOf(Math.max(...values));

for (const patch of ["whole", [4, 4, 4]] as const) {
  test(`the bias is one on the logits before the softmax, window ${String(patch)}`, async () => {
    for (const classBias of [undefined, [0, 0.6, 0.6, 0.6], [-1, 0.3, 0, 2]]) {
      const found = await predictVolume(predictor, image, size, { patch, classBias });
      const expected = [...image].map((value) =>
        argmax(logitsOf(value).map((logit, c) => logit + (classBias?.[c] ?? 0))),
      );
      assert.equal([...found], expected);
    }
  });
}

test("averaged probabilities are biased once, after they are averaged", async () => {
  // Two windows of three voxels over four. Between them the averages are 0.65 and 0.35; a bias of ln(0.65 / 0.35), about
  // 0.62, makes them equal, whereas each window biased by that before averaging would still leave class 0 ahead.
  const said = [
    [0.9, 0.1],
    [0.4, 0.6],
  ];
  let window = 0;
  const disagreeing = {
    classes: 2,
    divisor: [1, 1, 1],
    run: (patch: Float32Array) => {
      const pair = said[window++];
      return Promise.resolve(Float32Array.from([...patch].flatMap(() => pair)));
    },
  } as unknown as Predictor;
  const options = { patch: [3, 1, 1], overlap: 0.5, blend: "uniform" } as const;
  const labels = async (bias: number) => {
    window = 0;
    return [
      ...(await predictVolume(disagreeing, new Float32Array(4), [4, 1, 1], {
        ...options,
        classBias: [0, bias],
      })),
    ];
  };
  assert.equal(await labels(0.6), [0, 0, 0, 1]);
  assert.equal(await labels(0.63), [0, 1, 1, 1]);
  assert.equal(await labels(-0.41), [0, 0, 0, 0]);
  assert.equal(await labels(Math.log(9) + 0.01), [1, 1, 1, 1]);
});

test("a bias that does not fit the classes is refused", () => {
  assert.equal([...biasFactors(3)], [1, 1, 1]);
  assert.throws(() => biasFactors(3, [0, 1]), /expected 3 numbers, one per class, background first; found 2/);
  for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, -51])
    assert.throws(() => biasFactors(2, [0, wrong]), /must lie between -50 and 50, found/);
});

test.run();
