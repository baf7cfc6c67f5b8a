import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { concat, padSlice, slice } from "../../lib/ops/shape.ts";
import { type Array64, checkOp } from "./harness.ts";

/** The offset of an element along `axis`, and where it lies otherwise. */
function walk(
  shape: Shape,
  axis: number,
  visit: (index: number, along: number, outer: number, inner: number) => void,
) {
  const unit = elements(shape.slice(axis + 1));
  for (let index = 0; index < elements(shape); index++)
    visit(
      index,
      Math.floor(index / unit) % shape[axis],
      Math.floor(index / unit / shape[axis]),
      index % unit,
    );
}

function referenceConcat(parts: Array64[], axis: number): Float64Array {
  const extent = parts.reduce((total, { shape }) => total + shape[axis], 0);
  const unit = elements(parts[0].shape.slice(axis + 1));
  const result = new Float64Array(parts.reduce((total, { data }) => total + data.length, 0));
  let start = 0;
  for (const { shape, data } of parts) {
    const offset = start;
    walk(shape, axis, (index, along, outer, inner) => {
      result[(outer * extent + offset + along) * unit + inner] = data[index];
    });
    start += shape[axis];
  }
  return result;
}

function referenceSlice({ shape, data }: Array64, axis: number, start: number, length: number): number[] {
  const result: number[] = [];
  walk(shape, axis, (index, along) => {
    if (along >= start && along < start + length) result.push(data[index]);
  });
  return result;
}

const base = [2, 3, 1, 4, 5];

test("concat along every axis", async () => {
  for (let axis = 0; axis < 5; axis++) {
    const resized = (extent: number) => base.map((own, index) => (index === axis ? extent : own));
    await checkOp({
      inputs: { a: { shape: resized(2) }, b: { shape: resized(7) }, c: { shape: resized(1) } },
      build: ({ a, b, c }) => concat([a, b, c], { axis: axis - (axis % 2 === 0 ? 5 : 0) }),
      reference: ({ a, b, c }) => referenceConcat([a, b, c], axis),
    });
  }
});

test("concat of one tensor with itself adds both gradients", async () => {
  await checkOp({
    inputs: { a: { shape: base } },
    build: ({ a }) => concat([a, a], { axis: -1 }),
    reference: ({ a }) => referenceConcat([a, a], 4),
  });
});

test("slice along every axis", async () => {
  const shape = [4, 3, 5, 3, 6];
  for (let axis = 0; axis < 5; axis++)
    for (const [start, length] of [
      [0, 2],
      [1, 2],
      [shape[axis] - 1, 1],
      [0, shape[axis]],
    ])
      await checkOp({
        inputs: { x: { shape } },
        build: ({ x }) => slice(x, { axis: axis - 5, start, length }),
        reference: ({ x }) => referenceSlice(x, axis, start, length),
      });
});

test("padSlice is the transpose of slice", async () => {
  for (const [start, extent] of [
    [0, 5],
    [2, 5],
    [1, 9],
    [0, 3],
  ])
    await checkOp({
      inputs: { x: { shape: [2, 3, 4] } },
      build: ({ x }) => padSlice(x, { axis: 1, start, extent }),
      reference: ({ x }) => {
        const result = new Float64Array(2 * extent * 4);
        walk(x.shape, 1, (index, along, outer, inner) => {
          result[(outer * extent + start + along) * 4 + inner] = x.data[index];
        });
        return result;
      },
    });
});

test("large blocks are copied in pieces", async () => {
  const data = Float64Array.from({ length: 2 * 3 * 50000 }, (_, i) => i);
  await checkOp({
    inputs: { x: { shape: [2, 3, 50000], data } },
    build: ({ x }) =>
      concat([slice(x, { axis: 1, start: 2, length: 1 }), slice(x, { axis: 1, start: 0, length: 2 })], {
        axis: 1,
      }),
    reference: ({ x }) =>
      [0, 1].flatMap((n) =>
        [2, 0, 1].flatMap((k) => [...x.data.subarray((3 * n + k) * 50000, (3 * n + k + 1) * 50000)]),
      ),
    wrt: [],
    tolerance: 0,
  });
});

test("bytes and integers", async () => {
  const plan = await compile((graph) => {
    const bytes = graph.input("bytes", [2, 3], "u8");
    const integers = graph.input("integers", [4], "i32");
    return {
      joined: concat([bytes, slice(bytes, { axis: 1, start: 1, length: 1 })], { axis: 1 }),
      padded: padSlice(slice(integers, { axis: 0, start: 1, length: 2 }), { axis: 0, start: 0, extent: 3 }),
    };
  });
  const { joined, padded } = await plan.run({
    bytes: Uint8Array.of(1, 2, 3, 4, 5, 6),
    integers: Int32Array.of(7, -8, 9, 10),
  });
  plan.dispose();
  assert.equal([...(joined as Uint8Array)], [1, 2, 3, 2, 4, 5, 6, 5]);
  assert.equal([...(padded as Int32Array)], [-8, 9, 0]);
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const a = graph.input("a", [2, 3]);
  const b = graph.input("b", [3, 3]);
  assert.throws(() => concat([a, b], { axis: 1 }), /concat: .* all axes but 1, found f32\[2,3\], f32\[3,3\]/);
  assert.throws(
    () => concat([a, graph.input("c", [2, 3], "i32")], { axis: 0 }),
    /concat: .* found f32\[2,3\], i32\[2,3\]/,
  );
  assert.throws(() => concat([], { axis: 0 }), /concat: at least one operand/);
  assert.throws(
    () => slice(a, { axis: 2, start: 0, length: 1 }),
    /slice: f32\[2,3\] has axes -2 to 1, found axis 2/,
  );
  assert.throws(
    () => slice(a, { axis: -1, start: 2, length: 2 }),
    /slice: 2 from 2 of axis 1 lies outside f32\[2,3\]/,
  );
  assert.throws(
    () => padSlice(a, { axis: 0, start: 2, extent: 3 }),
    /padSlice: f32\[2,3\] at 2 of axis 0 exceeds the extent 3/,
  );
});

test.run();
