import { test } from "uvu";
import * as assert from "uvu/assert";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { resize, type ResizeOptions } from "../../lib/ops/resize.ts";
import { type Array64, checkOp, random } from "./harness.ts";

/** The input positions and weights of one result index. */
function sources(i: number, n: number, m: number, { mode, alignCorners }: ResizeOptions): [number, number][] {
  const corner = m > 1 ? (i * (n - 1)) / (m - 1) : 0;
  if (mode === "nearest") return [[alignCorners ? Math.floor(corner + 0.5) : Math.floor((i * n) / m), 1]];
  const position = alignCorners ? corner : Math.max(0, ((i + 0.5) * n) / m - 0.5);
  const low = Math.min(Math.floor(position), n - 1);
  return [
    [low, 1 - (position - low)],
    [Math.min(low + 1, n - 1), position - low],
  ];
}

function referenceResize({ shape, data }: Array64, options: ResizeOptions): number[] {
  const [samples, D, H, W, channels] = shape;
  const [Z, P, Q] = options.size;
  const result: number[] = [];
  for (let n = 0; n < samples; n++)
    for (let z = 0; z < Z; z++)
      for (let p = 0; p < P; p++)
        for (let q = 0; q < Q; q++)
          for (let c = 0; c < channels; c++) {
            let total = 0;
            for (const [d, u] of sources(z, D, Z, options))
              for (const [h, v] of sources(p, H, P, options))
                for (const [w, t] of sources(q, W, Q, options))
                  total += u * v * t * data[(((n * D + d) * H + h) * W + w) * channels + c];
            result.push(total);
          }
  return result;
}

const cases: { from: number[]; size: [number, number, number] }[] = [
  { from: [2, 3, 4], size: [4, 6, 8] },
  { from: [3, 5, 4], size: [7, 3, 4] },
  { from: [1, 6, 9], size: [1, 2, 4] },
  { from: [2, 1, 5], size: [1, 4, 13] },
];

for (const mode of ["linear", "nearest"] as const)
  for (const alignCorners of [false, true])
    test(`${mode} ${alignCorners ? "corner to corner" : "edge to edge"}`, async () => {
      for (const { from, size } of cases)
        for (const channels of [1, 3, 8, 17]) {
          const options = { size, mode, alignCorners };
          await checkOp({
            inputs: { x: { shape: [2, ...from, channels] } },
            build: ({ x }) => resize(x, options),
            reference: ({ x }) => referenceResize(x, options),
          });
        }
    });

test("the gradient is the exact transpose: its own gradient is the resize", async () => {
  for (const mode of ["linear", "nearest"] as const) {
    const options = { size: [5, 2, 9] as const, mode };
    await checkOp({
      inputs: { x: { shape: [1, 3, 4, 5, 2] } },
      // The square of a linear map: its gradient runs the transpose behind the map.
      build: ({ x }) => resize(resize(x, options), { size: [3, 4, 5], mode }),
      reference: ({ x }) => {
        const data = Float64Array.from(referenceResize(x, options));
        return referenceResize({ shape: [1, 5, 2, 9, 2], data }, { size: [3, 4, 5], mode });
      },
    });
  }
});

test("a volume of more lines than tasks", async () => {
  const options = { size: [20, 18, 6] as const, mode: "linear" as const };
  const shape = [1, 10, 9, 12, 2];
  await checkOp({
    inputs: { x: { shape, data: random(elements(shape), 7) } },
    build: ({ x }) => resize(x, options),
    reference: ({ x }) => referenceResize(x, options),
  });
});

test("the same size copies", async () => {
  for (const mode of ["linear", "nearest"] as const)
    for (const alignCorners of [false, true])
      await checkOp({
        inputs: { x: { shape: [1, 3, 4, 5, 2] } },
        build: ({ x }) => resize(x, { size: [3, 4, 5], mode, alignCorners }),
        reference: ({ x }) => x.data,
        tolerance: 0,
      });
});

test("what does not fit is named", () => {
  const graph = new Graph();
  const x = graph.input("x", [1, 2, 3, 4, 5]);
  assert.throws(() => resize(x, { size: [1, 2, 0.5], mode: "linear" }), /resize: size .* found \[1,2,0.5\]/);
  assert.throws(
    () => resize(graph.input("y", [2, 3]), { size: [1, 2, 3], mode: "linear" }),
    /resize: .* found f32\[2,3\]/,
  );
});

test.run();
