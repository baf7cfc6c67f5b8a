import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { layOut } from "../../lib/compile/memory.ts";

const interval = fc
  .tuple(fc.integer({ min: 1, max: 5000 }), fc.nat(30), fc.nat(8))
  .map(([bytes, first, length]) => ({ bytes, first, last: first + length }));

test("intervals that live at the same time never overlap, and the arena holds them all", () => {
  fc.assert(
    fc.property(fc.array(interval, { maxLength: 60 }), fc.constantFrom(0, 256), (intervals, gap) => {
      const { offsets, bytes } = layOut(intervals, gap);
      for (const [i, a] of intervals.entries()) {
        assert.is(offsets[i] % 256, 0);
        assert.ok(offsets[i] + a.bytes + gap <= bytes);
        for (const [j, b] of intervals.slice(0, i).entries()) {
          const together = a.first <= b.last && b.first <= a.last;
          const apart = offsets[i] >= offsets[j] + b.bytes + gap || offsets[j] >= offsets[i] + a.bytes + gap;
          assert.ok(!together || apart, `${JSON.stringify([a, b])} at ${offsets[i]} and ${offsets[j]}`);
        }
      }
    }),
  );
});

test("memory is used again once its tensor is dead", () => {
  const chain = Array.from({ length: 20 }, (_, index) => ({ bytes: 1024, first: index, last: index + 1 }));
  assert.is(layOut(chain).bytes, 2048);
});

test.run();
