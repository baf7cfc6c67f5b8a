import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectSameShape, expectShape, expectVoxels } from "./check.ts";
import { defineOp, perElement } from "./define.ts";
import { dice, diceOfSums } from "./dice.ts";
import { crossEntropy, maskedMse } from "./loss.ts";
import { expectChannels, sharpen, softmax, softmaxFlops } from "./softmax.ts";

/**
 * For every sample of logits `[N, ..., C]` the sums over voxels that its losses are made of, as `[N, C + 2, 3]`, p being
 * the softmax and g the one-hot labels: a row per class of the sums of p g, of p or p^2, and of g; a row of negative
 * log-likelihood and number of voxels; a row of squared error and number of voxels where the mask is set.
 */
type SegmentationSums = {
  squared: boolean;
  /** Whether class 0 has sums of its own and a part in the squared error; the sums are 0 otherwise. */
  background: boolean;
};

function sumsType(op: string, logits: Value, labels: Value, mask: Value | undefined): TensorType {
  expectChannels(op, "logits", logits);
  expectVoxels(op, "labels", labels, logits, "u8");
  if (mask !== undefined) expectVoxels(op, "the mask", mask, logits, "u8");
  return { dtype: "f32", shape: [logits.shape[0], logits.shape[logits.shape.length - 1] + 2, 3] };
}

const segmentationSumsOp = defineOp<SegmentationSums>({
  name: "segmentationSums",
  infer: ([logits, labels, mask]) => sumsType("segmentationSums", logits, labels, mask),
  grad: ([logits, labels, ...mask], dy, _y, attributes) => [
    segmentationSumsGradOp([logits, labels, dy, ...mask], attributes),
    null,
    null,
  ],
  flops: ([logits]) => softmaxFlops(logits),
});

const segmentationSumsGradOp = defineOp<SegmentationSums>({
  name: "segmentationSumsGradient",
  infer: ([logits, labels, dy, mask]) => {
    const { shape } = sumsType("segmentationSumsGradient", logits, labels, mask);
    expectShape("segmentationSumsGradient", "the gradient", dy, shape);
    return logits;
  },
  grad: "none",
  flops: ([logits]) => softmaxFlops(logits),
  inPlace: 0,
});

type RatioOfSums = {
  row: number;
};

function checkRatio(op: string, sums: Value, { row }: RatioOfSums): void {
  expectDType(op, "the sums", sums, "f32");
  if (sums.shape.length !== 3 || !(row >= 0 && row < sums.shape[1]) || sums.shape[2] !== 3)
    throw new ShapeError(`${op}: the sums must be [N, R, 3] with a row ${row}, found ${formatType(sums)}`);
}

const ratioOfSumsOp = defineOp<RatioOfSums>({
  name: "ratioOfSums",
  infer: ([sums], attributes) => {
    checkRatio("ratioOfSums", sums, attributes);
    return { dtype: "f32", shape: [] };
  },
  grad: ([sums], dy, _y, attributes) => [ratioOfSumsGradOp([sums, dy], attributes)],
  flops: ([sums]) => 2 * sums.shape[0],
});

const ratioOfSumsGradOp = defineOp<RatioOfSums>({
  name: "ratioOfSumsGradient",
  infer: ([sums, dy], attributes) => {
    checkRatio("ratioOfSumsGradient", sums, attributes);
    expectShape("ratioOfSumsGradient", "the gradient", dy, []);
    return sums;
  },
  grad: "none",
  flops: perElement(0),
});

/** The first sum of a row of `[N, R, 3]` divided by the second one, both over all samples; 0 when nothing was summed. */
export const ratioOfSums = (sums: Operand, row: number): Value => ratioOfSumsOp([sums], { row });

type SoftmaxDistance = {
  temperature: number;
};

function checkDistance(op: string, logits: Value, teacher: Value, { temperature }: SoftmaxDistance): void {
  expectChannels(op, "logits", logits);
  expectDType(op, "the teacher's logits", teacher, "f32");
  expectSameShape(op, logits, teacher);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new ShapeError(`${op}: the temperature must be above 0, found ${temperature}`);
}

const softmaxDistanceOp = defineOp<SoftmaxDistance>({
  name: "softmaxDistance",
  infer: ([logits, teacher], attributes) => {
    checkDistance("softmaxDistance", logits, teacher, attributes);
    return { dtype: "f32", shape: [] };
  },
  grad: ([logits, teacher], dy, _y, attributes) => [
    softmaxDistanceGradOp([logits, teacher, dy], attributes),
    null,
  ],
  flops: ([logits]) => 2 * softmaxFlops(logits),
});

const softmaxDistanceGradOp = defineOp<SoftmaxDistance>({
  name: "softmaxDistanceGradient",
  infer: ([logits, teacher, dy], attributes) => {
    checkDistance("softmaxDistanceGradient", logits, teacher, attributes);
    expectShape("softmaxDistanceGradient", "the gradient", dy, []);
    return logits;
  },
  grad: "none",
  flops: ([logits]) => 2 * softmaxFlops(logits),
  inPlace: 0,
});

/**
 * What SD-Net's pupil learns from its teacher without labels (eq. 8): the mean over voxels and classes of
 * `(softmax(logits) - sharpen(teacher, T))^2`, in one pass over both. The teacher is a constant, no gradient flows to it.
 */
export const pseudoLabelError = (logits: Operand, teacher: Operand, temperature: number): Value =>
  softmaxDistanceOp([logits, teacher], { temperature });

/** The same from the basic ops. */
export const pseudoLabelErrorInSteps = (logits: Operand, teacher: Operand, temperature: number): Value =>
  maskedMse(softmax(logits), sharpen(teacher, temperature));

export interface SegmentationOptions {
  /** Dice denominators of p^2 instead of p; default true. */
  readonly squared?: boolean;
  /** Added to numerators and denominators of Dice; default 1e-5. */
  readonly smooth?: number;
  /** Whether class 0 takes part in Dice and in the masked error; default false. */
  readonly background?: boolean;
  /** u8 `[N, D, H, W]`: the voxels of the masked error. Without it there is none. */
  readonly mask?: Operand;
}

/** The losses of one prediction, each a scalar; those that nothing uses cost nothing. */
export interface SegmentationLosses {
  /** `crossEntropy(logits, labels)` */
  readonly crossEntropy: Value;
  /** `dice(softmax(logits), labels, ...)` over the whole batch. */
  readonly dice: Value;
  /** The same with `perSample`. */
  readonly diceOfSamples: Value;
  /** `maskedMse(softmax(logits), labels, ...)`, where a mask was given. */
  readonly maskedMse?: Value;
}

/**
 * Cross-entropy, Dice loss and masked squared error of `[N, D, H, W, C]` logits against labels `[N, D, H, W]`: what
 * `segmentationLossesInSteps` says, in one pass over the voxels and one more for the gradient.
 * The probabilities take no memory of their own. Labels must be u8; i32 labels are computed in steps.
 */
export function segmentationLosses(
  logits: Value,
  labels: Value,
  options: SegmentationOptions = {},
): SegmentationLosses {
  if (labels.dtype !== "u8") return segmentationLossesInSteps(logits, labels, options);
  const { squared = true, background = false, mask } = options;
  const operands = mask === undefined ? [logits, labels] : [logits, labels, mask];
  const sums = segmentationSumsOp(operands, { squared, background });
  const classes = logits.shape[logits.shape.length - 1];
  return {
    crossEntropy: ratioOfSums(sums, classes),
    dice: diceOfSums(sums, classes, options),
    diceOfSamples: diceOfSums(sums, classes, { ...options, perSample: true }),
    maskedMse: mask === undefined ? undefined : ratioOfSums(sums, classes + 1),
  };
}

/** The same from the basic ops: what defines `segmentationLosses`, and what its kernels are tested against. */
export function segmentationLossesInSteps(
  logits: Value,
  labels: Value,
  options: SegmentationOptions = {},
): SegmentationLosses {
  const { background = false, mask } = options;
  const probabilities = softmax(logits);
  return {
    crossEntropy: crossEntropy(logits, labels),
    dice: dice(probabilities, labels, options),
    diceOfSamples: dice(probabilities, labels, { ...options, perSample: true }),
    maskedMse: mask === undefined ? undefined : maskedMse(probabilities, labels, { background, mask }),
  };
}
