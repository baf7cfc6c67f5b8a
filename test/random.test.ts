import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { philox4x32, Random } from "../lib/random.ts";
import { UsageError } from "../lib/errors.ts";

const hex = (words: Uint32Array) => Array.from(words, (word) => word.toString(16).padStart(8, "0")).join(" ");

test("philox4x32-10 gives the published known answers", () => {
  assert.is(hex(philox4x32([0, 0, 0, 0], [0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  const ones = 0xffffffff;
  assert.is(hex(philox4x32([ones, ones, ones, ones], [ones, ones])), "408f276d 41c83b0e a20bc7c6 6d5451fd");
  assert.is(
    hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  );
});

test("a stream is laid out as its docstring says", () => {
  const seed = 2 ** 40 + 7;
  const stream = 2 ** 33 + 5;
  const folded = philox4x32([5, 2, 1, 0xffffffff], [7, 256]);
  const random = new Random(seed, stream);
  assert.equal([...random.key], [folded[0], folded[1]]);
  const expected = [0, 1].flatMap((n) => [...philox4x32([n, 0, 0, 0], random.key)]);
  assert.equal(
    expected.map(() => random.uint32()),
    expected,
  );
});

test("streams that differ in one number, in order or in length differ; equal ones are equal", () => {
  const heads = [[], [0], [1], [0, 0], [0, 1], [1, 0], [2 ** 32]].map((s) => new Random(5, ...s).uint32());
  assert.is(new Set(heads).size, heads.length);
  assert.is(new Random(5, 1, 2).uint32(), new Random(5, 1, 2).uint32());
  assert.is.not(new Random(5).uint32(), new Random(6).uint32());
});

test("uniform, normal and below have the moments they should", () => {
  const random = new Random(1);
  const n = 40000;
  const moments = (draw: () => number) => {
    const values = Array.from({ length: n }, draw);
    const mean = values.reduce((a, b) => a + b, 0) / n;
    return { values, mean, variance: values.reduce((a, b) => a + (b - mean) ** 2, 0) / n };
  };
  const uniform = moments(() => random.uniform());
  assert.ok(uniform.values.every((v) => v >= 0 && v < 1));
  assert.ok(Math.abs(uniform.mean - 0.5) < 0.008 && Math.abs(uniform.variance - 1 / 12) < 0.003);
  const normal = moments(() => random.normal());
  assert.ok(Math.abs(normal.mean) < 0.025 && Math.abs(normal.variance - 1) < 0.04);
  const tails = normal.values.filter((v) => Math.abs(v) > 1.96).length / n;
  assert.ok(Math.abs(tails - 0.05) < 0.006, `share beyond 1.96: ${tails}`);
  const counts = new Array<number>(7).fill(0);
  for (let i = 0; i < n; i++) counts[random.below(7)]++;
  const chi2 = counts.reduce((sum, c) => sum + (c - n / 7) ** 2 / (n / 7), 0);
  assert.ok(chi2 < 22.5, `chi squared with 6 degrees of freedom: ${chi2}`);
});

test("below(n) does not favour small results when n is near 2^32", () => {
  const random = new Random(9);
  const n = 3 * 2 ** 30;
  const low = Array.from({ length: 20000 }, () => random.below(n)).filter((v) => v < n / 3).length;
  assert.ok(Math.abs(low / 20000 - 1 / 3) < 0.015, `share of the lowest third: ${low / 20000}`);
});

test("a permutation holds every number once", () => {
  fc.assert(
    fc.property(fc.nat(200), fc.maxSafeNat(), (n, seed) => {
      const order = new Random(seed).permutation(n);
      assert.equal(
        [...order].sort((a, b) => a - b),
        Array.from({ length: n }, (_, i) => i),
      );
    }),
    { numRuns: 50 },
  );
});

test("unusable seeds and ranges are refused", () => {
  for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) assert.throws(() => new Random(seed), UsageErrorLike);
  for (const n of [0, -1, 1.5, 2 ** 32 + 1]) assert.throws(() => new Random(1).below(n), UsageErrorLike);
});

function UsageErrorLike(error: unknown): boolean {
  return error instanceof UsageError;
}

test.run();
