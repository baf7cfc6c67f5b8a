/** One convolution, or its transpose, checked against the float64 reference. */
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions, convTranspose3d, type PerAxis } from "../../lib/ops/conv.ts";
import { convBiasGradient, type ConvGeometry, convShape, convWithGradients } from "../oracle/conv.ts";
import { expectClose, random } from "./harness.ts";

export type Triple = readonly [number, number, number];

export interface Case {
  readonly x: Shape;
  readonly w: Shape;
  readonly geometry: ConvGeometry;
}

export const all = (n: number): Triple => [n, n, n];
export const optionsOf = ({ stride, padding, dilation, groups }: ConvGeometry) =>
  ({ stride, padding, dilation, groups }) as unknown as ConvOptions;
export const label = ({ x, w, geometry }: Case) =>
  `x [${x.join()}] w [${w.join()}] stride ${geometry.stride.join("x")} padding ${geometry.padding.join("x")} ` +
  `dilation ${geometry.dilation.join("x")} groups ${geometry.groups}`;

export function dense(shape: Shape, seed: number) {
  return { shape, data: random(elements(shape), seed) };
}

/** Value and all gradients of one convolution, or of its transpose, against the reference, in one plan. */
export async function checkConv(each: Case, transposed = false): Promise<void> {
  const { geometry } = each;
  const ySpatial = convShape(each.x, each.w, geometry);
  // The transposed convolution takes what the convolution yields, and yields what that takes.
  const [from, to] = transposed ? [ySpatial, each.x] : [each.x, ySpatial];
  const x = dense(from, 1);
  const w = dense(each.w, 2);
  const bias = dense([to[4]], 3);
  const dy = dense(to, 4);
  const outputPadding = [0, 1, 2].map((axis) => {
    const { stride, padding, dilation } = geometry;
    return (
      each.x[axis + 1] +
      2 * padding[axis] -
      dilation[axis] * (each.w[axis + 1] - 1) -
      1 -
      (ySpatial[axis + 1] - 1) * stride[axis]
    );
  }) as unknown as PerAxis;

  using plan = await compile(
    (graph) => {
      const inputs = {
        x: graph.input("x", from),
        w: graph.input("w", w.shape),
        bias: graph.input("bias", bias.shape),
      };
      const options = { ...optionsOf(geometry), bias: inputs.bias };
      const y = transposed
        ? convTranspose3d(inputs.x, inputs.w, { ...options, outputPadding })
        : conv3d(inputs.x, inputs.w, options);
      const loss = sum(mul(y, graph.input("dy", to)));
      const [dx, dw, dbias] = gradients(loss, Object.values(inputs));
      return { y, dx, dw, dbias };
    },
    { paranoid: true },
  );
  assert.equal(plan.graph.outputs.get("y")?.shape, to);
  const found = await plan.run({
    x: Float32Array.from(x.data),
    w: Float32Array.from(w.data),
    bias: Float32Array.from(bias.data),
    dy: Float32Array.from(dy.data),
  });
  const expected = convWithGradients({ x, w, bias, dy }, geometry, transposed);
  const what = label(each);
  expectClose(found.y, expected.y.data, 2e-6, `y of ${what}`);
  expectClose(found.dx, expected.dx.data, 2e-6, `dx of ${what}`);
  expectClose(found.dw, expected.dw.data, 4e-6, `dw of ${what}`);
  expectClose(found.dbias, convBiasGradient(dy), 2e-6, `dbias of ${what}`);
}
