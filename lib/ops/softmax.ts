import { ShapeError } from "../errors.ts";
import { elements, formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectSameShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

/** Most channels that the per-voxel ops take: as many classes as byte labels can name. */
export const mostChannels = 256;

/** Checks that `value` holds floats with 1 to 256 channels on its last axis. */
export function expectChannels(op: string, what: string, value: TensorType): void {
  expectDType(op, what, value, "f32");
  if (value.shape.length < 2 || value.shape[value.shape.length - 1] > mostChannels)
    throw new ShapeError(
      `${op}: ${what} must be [N, ..., C] with C of at most ${mostChannels}, found ${formatType(value)}`,
    );
}

function inferRows(op: string, temperature = 1): (inputs: readonly Value[]) => TensorType {
  return (inputs) => {
    for (const input of inputs) {
      expectChannels(op, "the operand", input);
      expectSameShape(op, inputs[0], input);
    }
    if (!(temperature > 0 && Number.isFinite(temperature)))
      throw new ShapeError(`${op}: the temperature must be above 0, found ${temperature}`);
    return inputs[0];
  };
}

const softmaxOp = defineOp<{ temperature: number }>({
  name: "softmax",
  infer: (inputs, { temperature }) => inferRows("softmax", temperature)(inputs),
  grad: (_inputs, dy, y, attributes) => [softmaxGradOp([y, dy], attributes)],
  flops: perElement(20),
  inPlace: 0,
});

/** From the output `y` and its gradient. */
const softmaxGradOp = defineOp<{ temperature: number }>({
  name: "softmaxGradient",
  infer: (inputs, { temperature }) => inferRows("softmaxGradient", temperature)(inputs),
  grad: "none",
  flops: perElement(5),
  inPlace: 1,
});

const logSoftmaxOp = defineOp({
  name: "logSoftmax",
  infer: inferRows("logSoftmax"),
  grad: (_inputs, dy, y) => [logSoftmaxGradOp([y, dy], {})],
  flops: perElement(20),
  inPlace: 0,
});

/** From the output `y` and its gradient. */
const logSoftmaxGradOp = defineOp({
  name: "logSoftmaxGradient",
  infer: inferRows("logSoftmaxGradient"),
  grad: "none",
  flops: perElement(20),
  inPlace: 1,
});

/**
 * Class probabilities of every voxel: `[N, ..., C]` logits to `exp(x_c / T) / sum_k exp(x_k / T)`, with the largest
 * logit of each voxel subtracted first, so that no exponential overflows. C is at most 256.
 */
export const softmax = (x: Operand, { temperature = 1 }: { temperature?: number } = {}): Value =>
  softmaxOp([x], { temperature });

/** The logarithm of `softmax(x)`, exact where probabilities underflow: `x_c - max - log sum_k exp(x_k - max)`. */
export const logSoftmax = (x: Operand): Value => logSoftmaxOp([x], {});

/**
 * Sharpened class probabilities `p_c^(1/T) / sum_k p_k^(1/T)` of `p = softmax(logits)`: the pseudo-labels of SD-Net
 * (Algorithm 1, lines 11 and 14; the formula is that of Xie et al., "Unsupervised Data Augmentation for Consistency
 * Training", NeurIPS 2020). Computed as `softmax(logits / T)`, which is the same: with `p_c = exp(x_c) / Z`,
 * `p_c^(1/T) = exp(x_c / T) / Z^(1/T)`, and `Z^(1/T)`, equal for all c, cancels. Unlike the power of a
 * probability it does not underflow at small T.
 */
export const sharpen = (logits: Operand, temperature: number): Value => softmax(logits, { temperature });

/** Floating-point operations of one softmax over a tensor, for ops that contain one. */
export const softmaxFlops = (x: TensorType): number => 20 * elements(x.shape);
