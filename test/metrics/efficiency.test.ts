import { test } from "uvu";
import * as assert from "uvu/assert";
import { efficiency, type Sample } from "../../lib/metrics/efficiency.ts";

const samplesOf = (memory: readonly number[]): Sample[] =>
  memory.map((each, i) => ({ seconds: i / 10, memory: each, cpu: 50, ownCpu: i % 2 ? 20 : 10 }));

test("areas are sums times a tenth of a second, as the challenge takes them", () => {
  const found = efficiency(1.03, samplesOf([100, 100, 300, 300, 300, 200, 200, 100, 100, 100]));
  assert.is(found.seconds, 1.03);
  assert.is(found.samples, 10);
  assert.equal(found.memory, { maximum: 300, peak: 300, area: 180 });
  assert.equal([found.cpu.peak, found.cpu.area], [50, 50]);
  assert.equal([found.ownCpu.peak, found.ownCpu.area], [20, 15]);
});

test("a value of 2 % of the samples or fewer is no maximum", () => {
  const rest = Array.from({ length: 97 }, () => 500.2);
  assert.is(efficiency(10, samplesOf([...rest, 900, 900, 500])).memory.maximum, 500);
  assert.is(efficiency(10, samplesOf([...rest, 900, 900, 900])).memory.maximum, 900);
  assert.is(efficiency(10, samplesOf([...rest, 900, 900, 900])).memory.peak, 900);
});

test("memory that never rests has the value that 2 % exceed, and no samples have none", () => {
  const growing = Array.from({ length: 200 }, (_, i) => i);
  assert.is(efficiency(20, samplesOf(growing)).memory.maximum, 195);
  assert.equal(efficiency(0, []).memory, { maximum: 0, peak: 0, area: 0 });
});

test.run();
