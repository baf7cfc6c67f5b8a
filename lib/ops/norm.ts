import { counted, ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectActivation, expectDType, expectOptions, expectRank, expectShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";
import { type Affine, expectEpsilon, expectMoments, normalizeGradient } from "./norm_gradient.ts";

export interface NormOptions {
  /** Added to the variance before the square root; default 1e-5. */
  readonly epsilon?: number;
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
        `${op}: the variance of ${counted(count, "value")} has no unbiased estimate; at least 2 are needed`,
      );
    return moments;
  },
  grad: "none",
  flops: perElement(0.5),
});

/** `[x, moments, gamma, beta]` of the op called `op`: the result is like x. */
export function inferNormalize(
  op: string,
  [x, moments, gamma, beta]: readonly Value[],
  { epsilon }: Affine,
): TensorType {
  expectMoments(op, x, moments);
  expectDType(op, "gamma", gamma, "f32");
  expectShape(op, "gamma", gamma, [x.shape[4]]);
  expectDType(op, "beta", beta, "f32");
  expectShape(op, "beta", beta, [x.shape[4]]);
  expectEpsilon(op, epsilon);
  return x;
}

const normalizeOp = defineOp<Affine>({
  name: "normalize",
  infer: (inputs, attributes) => inferNormalize("normalize", inputs, attributes),
  grad: (inputs, dy, _y, attributes) => normalizeGradient(inputs, dy, attributes, { relu: false }),
  flops: perElement(3),
  inPlace: 0,
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
export function normalize(
  x: Operand,
  moments: Operand,
  gamma: Operand,
  beta: Operand,
  options: NormOptions & { batch: boolean },
): Value {
  expectOptions("normalize", options, { epsilon: true, batch: true });
  const { epsilon = 1e-5, batch } = options;
  return normalizeOp([x, moments, gamma, beta], { epsilon, batch });
}

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
