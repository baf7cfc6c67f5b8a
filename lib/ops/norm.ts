import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectActivation, expectDType, expectRank, expectSameShape, expectShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

export interface NormOptions {
  /** Added to the variance before the square root; default 1e-5. */
  readonly epsilon?: number;
}

type Affine = { readonly epsilon: number; readonly batch: boolean };

/** Moments `[N or 1, groups, 2]` must belong to `x`. */
function expectMoments(op: string, x: TensorType, moments: TensorType): void {
  expectActivation(op, "the input", x);
  expectDType(op, "the moments", moments, "f32");
  expectRank(op, "the moments [N or 1, groups, 2]", moments, 3);
  const [sets, groups, pair] = moments.shape;
  if (pair !== 2 || (sets !== 1 && sets !== x.shape[0]) || x.shape[4] % groups !== 0)
    throw new ShapeError(
      `${op}: moments must be [N or 1, groups, 2] with groups dividing the channels, ` +
        `found ${formatType(moments)} for the input ${formatType(x)}`,
    );
}

function expectEpsilon(op: string, epsilon: number): void {
  if (!(epsilon >= 0 && Number.isFinite(epsilon)))
    throw new ShapeError(`${op}: epsilon must be a number from 0, found ${epsilon}`);
}

const momentsOp = defineOp<{ perSample: boolean; groups: number }>({
  name: "moments",
  infer: ([x], { perSample, groups }) => {
    expectActivation("moments", "the input", x);
    if (!Number.isInteger(groups) || groups < 1 || x.shape[4] % groups !== 0)
      throw new ShapeError(`moments: groups must divide the channels of ${formatType(x)}, found ${groups}`);
    return { dtype: "f32", shape: [perSample ? x.shape[0] : 1, groups, 2] };
  },
  grad: "none",
  flops: ([x]) => perElement(3)([], x),
});

const unbiasedMomentsOp = defineOp<{ count: number }>({
  name: "unbiasedMoments",
  infer: ([moments], { count }) => {
    const op = "unbiasedMoments";
    expectDType(op, "the moments", moments, "f32");
    expectRank(op, "the moments [N or 1, groups, 2]", moments, 3);
    if (moments.shape[2] !== 2)
      throw new ShapeError(`${op}: the moments must be [N or 1, groups, 2], found ${formatType(moments)}`);
    if (!Number.isSafeInteger(count) || count < 2)
      throw new ShapeError(
        `${op}: the variance of ${count} values has no unbiased estimate; at least 2 are needed`,
      );
    return moments;
  },
  grad: "none",
  flops: perElement(0.5),
});

const normalizeOp = defineOp<Affine>({
  name: "normalize",
  infer: ([x, moments, gamma, beta], { epsilon }) => {
    const op = "normalize";
    expectMoments(op, x, moments);
    expectDType(op, "gamma", gamma, "f32");
    expectShape(op, "gamma", gamma, [x.shape[4]]);
    expectDType(op, "beta", beta, "f32");
    expectShape(op, "beta", beta, [x.shape[4]]);
    expectEpsilon(op, epsilon);
    return x;
  },
  grad: ([x, moments, gamma], dy, _y, attributes) => {
    const sums = gradientSumsOp([x, moments, dy], { epsilon: attributes.epsilon });
    return [
      inputGradientOp([x, moments, gamma, sums, dy], attributes),
      null,
      parameterGradientOp([sums], { which: 1 }),
      parameterGradientOp([sums], { which: 0 }),
    ];
  },
  flops: perElement(3),
  inPlace: 0,
});

/** Sums `[N or 1, C, 2]` over the elements of each channel: of `dy`, and of `dy` times the normalised input. */
const gradientSumsOp = defineOp<{ epsilon: number }>({
  name: "normalizeGradientSums",
  infer: ([x, moments, dy]) => {
    const op = "normalizeGradientSums";
    expectMoments(op, x, moments);
    expectActivation(op, "the output gradient", dy);
    expectSameShape(op, x, dy);
    return { dtype: "f32", shape: [moments.shape[0], x.shape[4], 2] };
  },
  grad: "none",
  flops: ([x]) => perElement(4)([], x),
});

/**
 * Whether `dx` is what a normalisation of each channel by its own moments passes back. Such a gradient sums to zero over a
 * channel, because the normalised value does not change when all values of the channel move together; computed, its sum is
 * rounding error.
 */
export function sumsToZero(dx: Value): boolean {
  const [x, moments] = dx.inputs;
  return (
    dx.op === "normalizeInputGradient" && dx.attributes.batch === true && moments.shape[1] === x.shape[4]
  );
}

/** The gradient `[C]` of beta (`which` 0) or gamma (`which` 1): the sums of all samples. */
const parameterGradientOp = defineOp<{ which: 0 | 1 }>({
  name: "normalizeParameterGradient",
  infer: ([sums]) => {
    expectRank("normalizeParameterGradient", "the sums [N or 1, C, 2]", sums, 3);
    return { dtype: "f32", shape: [sums.shape[1]] };
  },
  grad: "none",
  flops: ([sums], output) => perElement(sums.shape[0])([], output),
});

const inputGradientOp = defineOp<Affine>({
  name: "normalizeInputGradient",
  infer: ([x, moments, gamma, sums, dy]) => {
    const op = "normalizeInputGradient";
    expectMoments(op, x, moments);
    expectShape(op, "gamma", gamma, [x.shape[4]]);
    expectShape(op, "the sums", sums, [moments.shape[0], x.shape[4], 2]);
    expectActivation(op, "the output gradient", dy);
    expectSameShape(op, x, dy);
    return x;
  },
  grad: "none",
  flops: perElement(5),
  inPlace: 4,
});

/**
 * Mean and biased variance of `x` `[N, D, H, W, C]` as `[N or 1, groups, 2]`: over space and the channels of each
 * group, and over the batch as well unless `perSample`. Summed in double precision in a fixed order. No gradient
 * flows through them; `normalize` with `batch: true` accounts for their dependence on `x` itself.
 */
export const moments = (x: Operand, options: { perSample: boolean; groups: number }): Value =>
  momentsOp([x], { perSample: options.perSample, groups: options.groups });

/**
 * Moments whose variance is the unbiased estimate, `count / (count - 1)` times the biased one, `count` being the
 * number of values behind each pair. This is what running statistics keep.
 */
export const unbiasedMoments = (moments: Operand, { count }: { count: number }): Value =>
  unbiasedMomentsOp([moments], { count });

/**
 * `(x - mean) / sqrt(variance + epsilon) * gamma[c] + beta[c]` for `x` `[N, D, H, W, C]`, `moments`
 * `[N or 1, groups, 2]`, `gamma` and `beta` `[C]`.
 *
 * `batch: true` states that `moments` are those of this very `x`, so that the gradient flows through them too: the
 * gradient is wrong when they are not. `batch: false` takes them as constants, which running statistics are.
 * Either way the node `moments` itself gets no gradient.
 */
export const normalize = (
  x: Operand,
  moments: Operand,
  gamma: Operand,
  beta: Operand,
  { epsilon = 1e-5, batch }: NormOptions & { batch: boolean },
): Value => normalizeOp([x, moments, gamma, beta], { epsilon, batch });

/**
 * Batch normalisation as in training (Ioffe and Szegedy 2015, algorithm 1): by the moments of this batch, which are
 * returned `[1, C, 2]` for the running statistics.
 */
export function batchNorm(
  x: Operand,
  gamma: Operand,
  beta: Operand,
  options: NormOptions = {},
): { y: Value; moments: Value } {
  const own = channelMoments("batchNorm", x, false);
  return { y: normalize(x, own, gamma, beta, { ...options, batch: true }), moments: own };
}

/** Batch normalisation as in inference: by `runningMoments` `[1, C, 2]`, which count as constants. */
export const batchNormEval = (
  x: Operand,
  runningMoments: Operand,
  gamma: Operand,
  beta: Operand,
  options: NormOptions = {},
): Value => normalize(x, runningMoments, gamma, beta, { ...options, batch: false });

/** Normalises each channel of each sample by its own moments (Ulyanov et al. 2016). */
export const instanceNorm = (x: Operand, gamma: Operand, beta: Operand, options: NormOptions = {}): Value =>
  normalize(x, channelMoments("instanceNorm", x, true), gamma, beta, { ...options, batch: true });

/** Normalises `groups` runs of consecutive channels of each sample together (Wu and He 2018). */
export const groupNorm = (
  x: Operand,
  gamma: Operand,
  beta: Operand,
  { groups, ...options }: NormOptions & { groups: number },
): Value => normalize(x, moments(x, { perSample: true, groups }), gamma, beta, { ...options, batch: true });

/** Moments of every channel by itself. */
function channelMoments(op: string, x: Operand, perSample: boolean): Value {
  expectActivation(op, "the input", x);
  return moments(x, { perSample, groups: x.shape[4] });
}
