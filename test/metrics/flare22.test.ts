import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Triple } from "../../lib/data/volume.ts";
import { flare22Organs, flare22Scores, summarizeFlare22 } from "../../lib/metrics/flare22.ts";

const size: Triple = [8, 8, 6];
const [liver, aorta, gallbladder, esophagus, leftKidney] = [1, 5, 9, 10, 13];

/** Fills part of a map: columns x from 0 to `width`, rows y from 0 to 8, slices from `first` to `last`. */
function fill(labels: Uint8Array, label: number, width: number, first: number, last: number): Uint8Array {
  for (let z = first; z <= last; z++)
    for (let y = 0; y < 8; y++) labels.fill(label, (z * 8 + y) * 8, (z * 8 + y) * 8 + width);
  return labels;
}

const empty = () => new Uint8Array(8 * 8 * 6);
const score = (ref: Uint8Array, pred: Uint8Array, label: number, spacing: Triple = [1, 1, 1]) => {
  const { dsc, nsd } = [...flare22Scores(ref, pred, size, spacing)][label - 1];
  return [dsc, nsd];
};

test("thirteen organs, with the names and tolerances of the challenge", () => {
  const scores = [...flare22Scores(empty(), empty(), size, [1, 1, 1])];
  assert.equal(
    scores.map(({ class: label, organ }) => [label, organ]),
    flare22Organs.map(({ name }, i) => [i + 1, name]),
  );
  assert.is(flare22Organs[leftKidney - 1].name, "left kidney");
  assert.equal(
    flare22Organs.map(({ tolerance }) => tolerance),
    [5, 3, 3, 5, 2, 2, 2, 2, 2, 3, 5, 7, 3],
  );
});

test("absent organs: right is 1, invented or missed 0", () => {
  assert.equal(score(empty(), empty(), liver), [1, 1]);
  assert.equal(score(empty(), fill(empty(), liver, 2, 0, 2), liver), [0, 0]);
  assert.equal(score(fill(empty(), liver, 2, 0, 2), empty(), liver), [0, 0]);
  assert.equal(score(fill(empty(), aorta, 2, 0, 2), empty(), aorta), [0, 0]);
});

test("the surface Dice takes each organ's own tolerance", () => {
  const maps = (label: number) =>
    [fill(empty(), label, 2, 1, 4), fill(empty(), label, 4, 1, 4), label] as const;
  // The far side is 2 steps of 2 mm away: within 5 mm, beyond 2 mm.
  assert.equal(score(...maps(liver), [2, 2, 2]), [0.6667, 1]);
  const [dsc, nsd] = score(...maps(gallbladder), [2, 2, 2]);
  assert.is(dsc, 0.6667);
  assert.ok(nsd > 0.5 && nsd < 0.9, String(nsd));
});

test("a Dice below 0.2 makes the surface Dice 0, however near the surfaces are", () => {
  const ref = fill(empty(), liver, 1, 0, 0);
  const pred = fill(fill(empty(), liver, 2, 0, 4), 0, 1, 1, 4);
  assert.equal(score(ref, pred, liver), [0.2857, 1]);
  fill(pred, 0, 1, 0, 0)[0] = liver;
  assert.equal(score(ref, pred, liver), [0.0408, 0]);
});

test("tubes count in the reference's slices only, and the last of these is dropped", () => {
  const ref = fill(empty(), aorta, 2, 1, 3);
  assert.equal(score(ref, fill(empty(), aorta, 2, 0, 5), aorta), [1, 1]);
  assert.equal(score(ref, fill(empty(), aorta, 2, 1, 2), aorta), [1, 1]);
  assert.equal(score(ref, fill(empty(), aorta, 2, 3, 5), aorta), [0, 0]);
  // Any other organ counts in all slices.
  assert.is(score(fill(empty(), liver, 2, 1, 3), fill(empty(), liver, 2, 0, 5), liver)[0], 0.6667);
  assert.is(
    score(fill(empty(), esophagus, 2, 1, 3), fill(empty(), esophagus, 2, 1, 1), esophagus)[0],
    0.6667,
  );
});

test("a tube in one slice cannot be scored and stays out of means", () => {
  const one = fill(empty(), aorta, 2, 3, 3);
  assert.equal(score(one, one, aorta), [Number.NaN, Number.NaN]);
  const two = fill(empty(), aorta, 2, 3, 4);
  const half = fill(empty(), aorta, 1, 3, 4);
  const { organs, mean } = summarizeFlare22([
    [...flare22Scores(one, one, size, [1, 1, 1])],
    [...flare22Scores(two, half, size, [1, 1, 1])],
  ]);
  assert.equal(organs[aorta - 1], { dsc: 0.6667, nsd: 1 });
  assert.ok(Math.abs(mean.dsc - (12 + 0.6667) / 13) < 1e-12);
});

test("scores are rounded to four places, halves to even", () => {
  // Dice 2 / 64 = 0.03125 and 6 / 64 = 0.09375 lie halfway between two numbers of four places.
  const dice = (common: number) => {
    const ref = new Uint8Array(8 * 8 * 6).fill(liver, 0, 32);
    return score(ref, new Uint8Array(8 * 8 * 6).fill(liver, 32 - common, 64 - common), liver)[0];
  };
  assert.equal([dice(1), dice(3)], [0.0312, 0.0938]);
});

test("labels above 13 are refused", () => {
  assert.throws(
    () => [...flare22Scores(empty(), fill(empty(), 14, 1, 0, 0), size, [1, 1, 1])],
    /found label 14/,
  );
});

test.run();
