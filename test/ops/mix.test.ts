import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { mixWithNext } from "../../lib/ops/mix.ts";
import { random } from "./harness.ts";

for (const [count, channels] of [
  [1, 2],
  [2, 1],
  [3, 5],
]) {
  test(`${count} samples of ${channels} channels take the next one where the mask is 1`, async () => {
    const [d, h, w] = [2, 3, 5];
    const voxels = d * h * w;
    const x = Float32Array.from(random(count * voxels * channels, 1));
    const mask = Uint8Array.from(random(count * voxels, 2), (value) => (value > 0 ? 1 : 0));
    using plan = await compile(
      (g) => ({
        y: mixWithNext(g.input("x", [count, d, h, w, channels]), g.input("mask", [count, d, h, w], "u8")),
      }),
      { paranoid: true },
    );
    const { y } = await plan.run({ x, mask });
    const expected = x.map((own, index) => {
      const voxel = Math.floor(index / channels);
      const next = (index + voxels * channels) % x.length;
      return mask[voxel] === 1 ? x[next] : own;
    });
    assert.equal(y, expected);
  });
}

test.run();
