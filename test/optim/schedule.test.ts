import { test } from "uvu";
import * as assert from "uvu/assert";
import { constantRate, polynomial, rampUp, stepwise, warmUpPolynomial } from "../../lib/optim/schedule.ts";

test("the polynomial falls from its base to 0", () => {
  assert.is(polynomial(0.2)(0, 100), 0.2);
  assert.is(polynomial(0.2, 2)(50, 100), 0.05);
  assert.is(polynomial(0.2)(100, 100), 0);
});

test("a warm-up grows linearly from 0, then the polynomial goes on as if there had been none", () => {
  const rate = warmUpPolynomial(0.2, 10, 0.9);
  assert.equal(
    [0, 5, 9].map((step) => rate(step, 100)),
    [0, 0.1, (0.2 * 9) / 10],
  );
  for (const step of [10, 11, 99]) assert.is(rate(step, 100), polynomial(0.2, 0.9)(step, 100));
  assert.is(warmUpPolynomial(0.2, 0)(0, 100), 0.2);
});

test("steps divide, a constant stays, a ramp ends at 1", () => {
  assert.equal(
    [0, 199, 200].map((step) => stepwise(1, 200)(step, 1200)),
    [1, 1, 0.1],
  );
  assert.is(constantRate(0.3)(7, 9), 0.3);
  assert.is(rampUp(10, 10), 1);
  assert.is(rampUp(0, 10), Math.exp(-5));
  assert.is(rampUp(0, 0), 1);
});

test.run();
