/** Convolutions whose source is normalised and passed through a ReLU, with what they are fed: for tests of kernels that do so as they load it. */
import { gradients } from "../../lib/autograd/gradients.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions, convTranspose3d } from "../../lib/ops/conv.ts";
import { batchNormEval, groupNorm, moments } from "../../lib/ops/norm.ts";
import type { Precision } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";

export interface NormalizedConv {
  readonly name: string;
  readonly x: Shape;
  readonly w: Shape;
  readonly options: ConvOptions;
  readonly transposed?: boolean;
  /** Of the moments; by the samples of a batch of one instead of running ones. */
  readonly groups?: number;
}

export const normalizedConvs: readonly NormalizedConv[] = [
  { name: "3x3x3, 8 to 16", x: [2, 3, 7, 15, 8], w: [16, 3, 3, 3, 8], options: { padding: 1 } },
  { name: "3x3x3, 16 to 16", x: [2, 4, 7, 13, 16], w: [16, 3, 3, 3, 16], options: { padding: 1 } },
  {
    name: "transposed, in groups, 32 to 24, taps along the width as columns",
    x: [1, 8, 4, 14, 32],
    w: [32, 3, 2, 3, 12],
    options: { padding: [1, 0, 1], groups: 2 },
    transposed: true,
  },
  {
    name: "dilated, without padding, moments of groups, 16 to 24",
    x: [1, 5, 12, 16, 16],
    w: [24, 2, 3, 2, 16],
    options: { dilation: [1, 2, 3] },
    groups: 4,
  },
  {
    name: "of slices, 24 to 40",
    x: [3, 1, 15, 14, 24],
    w: [40, 1, 3, 3, 24],
    options: { padding: [0, 1, 1] },
  },
  {
    name: "transposed, in groups, 32 to 16",
    x: [1, 4, 7, 13, 32],
    w: [32, 3, 3, 3, 8],
    options: { padding: 1, groups: 2 },
    transposed: true,
  },
];

/** The results: y, the weights' gradient dw, and the moments of y's channels, `own`. */
export const traceNormalized =
  (
    { x: extents, w: weights, options, transposed, groups }: NormalizedConv,
    precision: Precision = "f32",
    bias = false,
  ) =>
  (g: Graph) => {
    const channels = [extents[4]];
    const [source, w] = [g.input("x", extents), g.input("w", weights)];
    // What a convolution stores is bf16, and this one leaves it as it is.
    const same = () => g.input("same", [extents[4], 1, 1, 1, extents[4]]);
    const x = precision === "bf16" ? conv3d(source, same()) : source;
    const [gamma, beta] = [g.input("gamma", channels), g.input("beta", channels)];
    const normal =
      groups === undefined
        ? batchNormEval(x, g.input("running", [1, extents[4], 2]), gamma, beta)
        : groupNorm(x, gamma, beta, { groups });
    const conv = transposed ? convTranspose3d : conv3d;
    const outputs = transposed ? weights[4] * (options.groups ?? 1) : weights[0];
    const y = conv(relu(normal), w, bias ? { ...options, bias: g.input("bias", [outputs]) } : options);
    const [dw] = gradients(sum(mul(y, g.input("slopes", y.shape))), [w]);
    return { y, dw, own: moments(y, { perSample: false, groups: y.shape[4] }) };
  };

export function feedOfNormalized(inputs: Graph["inputs"]): Record<string, Float32Array> {
  return Object.fromEntries(
    [...inputs].map(([name, { shape }], index) => {
      const values = Float32Array.from(random(elements(shape), index + 1));
      // Variances are positive; a gamma of 0 leaves beta alone, which the padding must not show.
      if (name === "running") for (let i = 1; i < values.length; i += 2) values[i] += 1.5;
      if (name === "gamma") values[1] = 0;
      if (name === "beta") values[1] = 0.75;
      if (name === "same") values.forEach((_, i) => (values[i] = Number(i % (shape[0] + 1) === 0)));
      return [name, values];
    }),
  );
}
