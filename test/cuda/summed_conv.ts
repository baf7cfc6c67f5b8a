/** Convolutions whose results' moments are wanted, with what they are fed: for tests of kernels that sum what they store. */
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Shape } from "../../lib/graph/value.ts";
import { conv3d, type ConvOptions } from "../../lib/ops/conv.ts";
import { moments } from "../../lib/ops/norm.ts";
import type { Precision } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";

export interface SummedConv {
  readonly name: string;
  readonly x: Shape;
  readonly w: Shape;
  readonly options: ConvOptions;
}

export const numbers = (shape: Shape, seed: number) => Float32Array.from(random(elements(shape), seed));

/** Weights of a convolution that leaves its source as it is, where that is bf16: what is stored so comes out of it. */
const identity = (channels: number) =>
  Float32Array.from({ length: channels ** 2 }, (_, at) => Number(at % (channels + 1) === 0));

/** The result y as it is stored, and the moments of its channels, `own`. */
export const traceSummed =
  ({ x, w, options }: SummedConv, precision: Precision = "f32") =>
  (g: Graph) => {
    const y = conv3d(g.input("x", x), g.input("w", w), { ...options, bias: g.input("bias", [w[0]]) });
    const own = moments(y, { perSample: false, groups: w[0] });
    return { own, y: precision === "bf16" ? conv3d(y, g.input("same", [w[0], 1, 1, 1, w[0]])) : y };
  };

/** `mean` is added to every number of the result. */
export const feedOfSummed = ({ x, w }: SummedConv, mean: number, precision: Precision = "f32") => ({
  x: numbers(x, 1),
  w: numbers(w, 2),
  bias: numbers([w[0]], 3).map((value) => value + mean),
  ...(precision === "bf16" && { same: identity(w[0]) }),
});

export function expectMoments(
  own: ArrayLike<number>,
  y: Float32Array,
  channels: number,
  tolerance = 4e-7,
): void {
  const count = y.length / channels;
  for (let channel = 0; channel < channels; channel++) {
    let mean = 0;
    let variance = 0;
    for (let i = channel; i < y.length; i += channels) mean += y[i] / count;
    for (let i = channel; i < y.length; i += channels) variance += (y[i] - mean) ** 2 / count;
    expectClose([own[2 * channel]], [mean], tolerance, `mean of channel ${channel}`);
    expectClose([own[2 * channel + 1]], [variance], 2.5 * tolerance, `variance of channel ${channel}`);
  }
}
