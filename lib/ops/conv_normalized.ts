import { ShapeError } from "../errors.ts";
import { type Attributes, formatType, type Value } from "../graph/value.ts";
import { conv3dWeightGradient, type ShapedWindow, weightGradientOp } from "./conv.ts";
import { conv3dPacked, type PackedConv, packedConvOp } from "./conv_packed.ts";
import { defineOp, type Op, perElement } from "./define.ts";
import { inferNormalize } from "./norm.ts";
import { normalizeRelu } from "./norm_fused.ts";
import type { Affine } from "./norm_gradient.ts";

/**
 * Convolutions, and weight gradients, of `normalizeRelu(x, moments, gamma, beta)`, whose kernels normalise x as they load
 * it: the normalised activation is never written. The compiler makes them; see lib/compile/on_load.ts. The first four
 * inputs are those of `normalizeRelu`, the moments being `[1, groups, 2]`; the others follow the source of the
 * convolution.
 */
function define<A extends Attributes>(
  name: string,
  convolution: Op<A>,
  fallback: (source: Value, others: readonly Value[], attributes: A & Affine) => Value,
): void {
  defineOp<A & Affine>({
    name,
    infer: ([x, moments, gamma, beta, ...others], attributes) => {
      inferNormalize(name, [x, moments, gamma, beta], attributes);
      if (moments.shape[0] !== 1)
        throw new ShapeError(`${name}: the moments must be [1, groups, 2], found ${formatType(moments)}`);
      return convolution.infer([x, ...others], attributes);
    },
    grad: "none",
    flops: ([x, , , , ...others], y, attributes) =>
      perElement(4)([], x) + convolution.flops([x, ...others], y, attributes),
    fallback: ([x, moments, gamma, beta, ...others], attributes) =>
      fallback(normalizeRelu(x, moments, gamma, beta, attributes), others, attributes),
  });
}

define<PackedConv>("normalizeReluConv3dPacked", conv3dPacked, (source, others, attributes) => {
  const { stride, padding, dilation, groups, inputGradient, packedOnce, kernel, shape } = attributes;
  const own = { stride, padding, dilation, groups, inputGradient, packedOnce, kernel, shape };
  return packedConvOp([source, ...others], own);
});

define<ShapedWindow>("normalizeReluConv3dWeightGradient", conv3dWeightGradient, (x, [dy], attributes) => {
  const { stride, padding, dilation, groups, shape } = attributes;
  return weightGradientOp([x, dy], { stride, padding, dilation, groups, shape });
});
