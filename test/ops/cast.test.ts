import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { arrayOf } from "../../lib/compile/states.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { cast } from "../../lib/ops/cast.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { random } from "./harness.ts";

test("a cast rounds to the nearest, ties to even, and back changes nothing", async () => {
  const numbers = Float32Array.of(
    1,
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
    -(1 + 2 ** -8 + 2 ** -20),
    3e38,
    -0,
    2 ** -130,
  );
  const more = Float32Array.from([...numbers, ...random(60, 1), Number.NaN, Number.POSITIVE_INFINITY]);
  using plan = await compile(
    (graph) => {
      const short = cast(graph.input("x", [more.length]), "bf16");
      return { short, long: cast(short, "f32") };
    },
    { device: openDevice(), paranoid: true },
  );
  const { short, long } = await plan.run({ x: more });
  assert.instance(short, arrayOf.bf16);
  const bits = new Uint32Array(more.buffer);
  for (let i = 0; i < more.length - 2; i++) {
    const expected = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16;
    assert.is(short[i], expected, `${more[i]}`);
    assert.is(new Float32Array(Uint32Array.of(expected << 16).buffer)[0], long[i]);
  }
  assert.equal([...long.slice(-2)], [Number.NaN, Number.POSITIVE_INFINITY]);
});

test("only floats are cast, and not to what they are", () => {
  const graph = new Graph();
  assert.throws(
    () => cast(graph.input("x", [3], "u8"), "bf16"),
    /cast: between f32 and bf16, found u8\[3\] to bf16/,
  );
  assert.throws(() => cast(graph.input("y", [3]), "f32"), /found f32\[3\] to f32/);
});

test.run();
