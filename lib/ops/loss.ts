import { ShapeError } from "../errors.ts";
import { elements, formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectSameShape, expectShape, expectVoxels } from "./check.ts";
import { defineOp, perElement } from "./define.ts";
import { expectChannels, mostChannels, softmaxFlops } from "./softmax.ts";

const scalar: TensorType = { dtype: "f32", shape: [] };

type CrossEntropy = {
  /** One weight per class, or none. */
  weights: readonly number[];
  /** The label that does not count; -1 for none. */
  ignore: number;
};

function inferCrossEntropy(
  op: string,
  logits: Value,
  labels: Value,
  mask: Value | undefined,
  { weights, ignore }: CrossEntropy,
): void {
  expectChannels(op, "logits", logits);
  expectVoxels(op, "labels", labels, logits, "u8", "i32");
  if (mask !== undefined) expectVoxels(op, "the mask", mask, logits, "u8");
  const classes = logits.shape[logits.shape.length - 1];
  if (weights.length !== 0 && weights.length !== classes)
    throw new ShapeError(`${op}: expected ${classes} class weights, found ${weights.length}`);
  if (!weights.every((weight) => weight >= 0 && Number.isFinite(weight)))
    throw new ShapeError(`${op}: class weights must be at least 0, found [${weights.join(", ")}]`);
  if ((ignore | 0) !== ignore)
    throw new ShapeError(`${op}: the label to ignore must be a whole number, found ${ignore}`);
}

const crossEntropyOp = defineOp<CrossEntropy>({
  name: "crossEntropy",
  infer: ([logits, labels, mask], attributes) => {
    inferCrossEntropy("crossEntropy", logits, labels, mask, attributes);
    return scalar;
  },
  grad: ([logits, labels, ...mask], dy, _y, attributes) => [
    crossEntropyGradOp([logits, labels, dy, ...mask], attributes),
    null,
    null,
  ],
  flops: ([logits]) => softmaxFlops(logits),
});

const crossEntropyGradOp = defineOp<CrossEntropy>({
  name: "crossEntropyGradient",
  infer: ([logits, labels, dy, mask], attributes) => {
    inferCrossEntropy("crossEntropyGradient", logits, labels, mask, attributes);
    expectShape("crossEntropyGradient", "the gradient", dy, []);
    return logits;
  },
  grad: "none",
  flops: ([logits]) => softmaxFlops(logits),
  inPlace: 0,
});

type MaskedMse = {
  background: boolean;
};

function inferMaskedMse(
  op: string,
  p: Value,
  target: Value,
  mask: Value | undefined,
  { background }: MaskedMse,
): void {
  expectChannels(op, "probabilities", p);
  if (target.dtype === "f32") expectSameShape(op, p, target);
  else expectVoxels(op, "target labels", target, p, "u8", "i32");
  if (mask !== undefined) expectVoxels(op, "the mask", mask, p, "u8");
  if (!background && p.shape[p.shape.length - 1] < 2)
    throw new ShapeError(`${op}: without the background no channel is left, found ${formatType(p)}`);
}

const maskedMseOp = defineOp<MaskedMse>({
  name: "maskedMse",
  infer: ([p, target, mask], attributes) => {
    inferMaskedMse("maskedMse", p, target, mask, attributes);
    return scalar;
  },
  grad: ([p, target, ...mask], dy, _y, attributes) => [
    maskedMseGradOp([p, target, dy, ...mask], attributes),
    null,
    null,
  ],
  flops: ([p]) => 3 * elements(p.shape),
});

const maskedMseGradOp = defineOp<MaskedMse>({
  name: "maskedMseGradient",
  infer: ([p, target, dy, mask], attributes) => {
    inferMaskedMse("maskedMseGradient", p, target, mask, attributes);
    expectShape("maskedMseGradient", "the gradient", dy, []);
    return p;
  },
  grad: "none",
  flops: perElement(3),
  inPlace: 0,
});

const oneHotOp = defineOp<{ classes: number }>({
  name: "oneHot",
  infer: ([labels], { classes }) => {
    expectDType("oneHot", "labels", labels, "u8", "i32");
    if (!Number.isInteger(classes) || classes < 1 || classes > mostChannels)
      throw new ShapeError(
        `oneHot: the number of classes must be from 1 to ${mostChannels}, found ${classes}`,
      );
    return { dtype: "f32", shape: [...labels.shape, classes] };
  },
  grad: "none",
  flops: () => 0,
});

/**
 * Cross-entropy of `[N, D, H, W, C]` logits against `[N, D, H, W]` labels (u8 or i32), as a scalar: the mean of
 * `-log softmax(logits)[label]` over the voxels that count, weighted by the `weights` of their classes where given,
 * `sum w nll / sum w`, as PyTorch has it. 0 when no voxel counts.
 *
 * A voxel does not count when its label is `ignore` or no class, or where `mask` (u8 `[N, D, H, W]`) is 0. With a mask of the
 * voxels on which two networks disagree this is the weighted-cross-entropy variant of SD-Net's difference loss (Table 2).
 */
export const crossEntropy = (
  logits: Operand,
  labels: Operand,
  { weights = [], ignore = -1, mask }: { weights?: readonly number[]; ignore?: number; mask?: Operand } = {},
): Value =>
  crossEntropyOp(mask === undefined ? [logits, labels] : [logits, labels, mask], {
    weights: [...weights],
    ignore,
  });

/**
 * Squared error of `[N, D, H, W, C]` probabilities against `target`, as a scalar. `target` is f32 of the same shape, or
 * labels (u8 or i32 `[N, D, H, W]`) in place of their one-hot form; it is a constant, no gradient flows to it.
 *
 * Without a mask: the mean over all voxels and channels, SD-Net's unsupervised loss (eq. 8). With a mask (u8 `[N, D, H, W]`):
 * `sum mask sum_c (p - t)^2 / (sum mask + 1e-16)`, its difference loss over disagreeing voxels (eq. 6); 0 when the mask
 * is empty. Both without the paper's leading minus, which would maximise the error. `background: false` leaves
 * channel 0 out, so that two classes are compared by their foreground alone. Voxels whose label is no class do not count.
 */
export const maskedMse = (
  probabilities: Operand,
  target: Operand,
  { background = true, mask }: { background?: boolean; mask?: Operand } = {},
): Value =>
  maskedMseOp(mask === undefined ? [probabilities, target] : [probabilities, target, mask], { background });

/**
 * `[N, D, H, W]` labels (u8 or i32) to f32 `[N, D, H, W, classes]`: 1 in the channel of the label, 0 elsewhere;
 * all zeros where the label is no class. At most 256 classes.
 */
export const oneHot = (labels: Operand, { classes }: { classes: number }): Value =>
  oneHotOp([labels], { classes });
