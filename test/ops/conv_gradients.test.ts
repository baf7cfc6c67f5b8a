/** Gradients of convolutions by finite differences, and gradients of gradients. */
import { test } from "uvu";
import { gradients } from "../../lib/autograd/gradients.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { conv, convInputGradient, convShape, convWeightGradient, plain } from "../oracle/conv.ts";
import { type Case, all, optionsOf } from "./conv_case.ts";
import { checkOp } from "./harness.ts";

const small: readonly Case[] = [
  { x: [1, 3, 4, 5, 3], w: [2, 2, 3, 2, 3], geometry: plain },
  {
    x: [1, 4, 3, 5, 2],
    w: [4, 3, 1, 3, 1],
    geometry: { stride: [2, 1, 2], padding: [1, 0, 2], dilation: [1, 2, 2], groups: 2 },
  },
  {
    x: [2, 1, 4, 4, 3],
    w: [3, 1, 3, 3, 1],
    geometry: { stride: all(1), padding: [0, 1, 1], dilation: all(1), groups: 3 },
  },
];

test("gradients of conv3d by finite differences", async () => {
  for (const { x, w, geometry } of small)
    await checkOp({
      inputs: { x: { shape: x }, w: { shape: w }, bias: { shape: [w[0]] } },
      build: ({ x, w, bias }) => conv3d(x, w, { ...optionsOf(geometry), bias }),
      reference: ({ x, w, bias }) => conv(x, w, geometry, bias).data,
    });
});

test("gradients of convTranspose3d by finite differences", async () => {
  for (const { x, w, geometry } of small) {
    const filters = w[4] * geometry.groups;
    // These weights are read as [Cin, k, k, k, Cout / groups].
    const shape = [x[0], ...convShape(x, w, geometry).slice(1, 4), w[0]];
    const spatial = [0, 1, 2].map(
      (axis) =>
        (shape[axis + 1] - 1) * geometry.stride[axis] -
        2 * geometry.padding[axis] +
        geometry.dilation[axis] * (w[axis + 1] - 1) +
        1,
    );
    await checkOp({
      inputs: { x: { shape }, w: { shape: w }, bias: { shape: [filters] } },
      build: ({ x, w, bias }) => convTranspose3d(x, w, { ...optionsOf(geometry), bias }),
      reference: ({ x, w, bias }) =>
        convInputGradient(x, w, [shape[0], ...spatial, filters], geometry, bias).data,
    });
  }
});

test("second derivatives: each gradient of conv3d differentiates again", async () => {
  const x = [1, 2, 4, 3, 2];
  const w = [3, 2, 2, 3, 2];
  const geometry = { ...plain, stride: [1, 2, 1], padding: [1, 0, 1] };
  const inputs = { x: { shape: x }, w: { shape: w } };
  for (const target of ["x", "w"] as const)
    await checkOp({
      inputs,
      build: (values) => {
        const y = conv3d(values.x, values.w, optionsOf(geometry));
        return gradients(sum(mul(y, y)), [values[target]])[0];
      },
      reference: ({ x, w }) => {
        const y = conv(x, w, geometry);
        const dy = { shape: y.shape, data: y.data.map((v) => 2 * v) };
        return target === "x"
          ? convInputGradient(dy, w, x.shape, geometry).data
          : convWeightGradient(x, dy, w.shape, geometry).data;
      },
    });
});

test.run();
