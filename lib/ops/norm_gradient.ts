import { ShapeError } from "../errors.ts";
import { formatType, type TensorType, type Value } from "../graph/value.ts";
import { expectActivation, expectDType, expectRank, expectSameShape, expectShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

export type Affine = { readonly epsilon: number; readonly batch: boolean };

/** Moments `[N or 1, groups, 2]` must belong to `x`. */
export function expectMoments(op: string, x: TensorType, moments: TensorType): void {
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

export function expectEpsilon(op: string, epsilon: number): void {
  if (!(epsilon >= 0 && Number.isFinite(epsilon)))
    throw new ShapeError(`${op}: epsilon must be a number from 0, found ${epsilon}`);
}

/** Whether a ReLU follows the normalisation: `dy` is then the gradient behind it. */
type Relu = { readonly relu: boolean };

function expectChannel(op: string, what: string, value: TensorType | undefined, x: TensorType): void {
  if (value === undefined) throw new ShapeError(`${op}: with a ReLU it needs ${what}`);
  expectDType(op, what, value, "f32");
  expectShape(op, what, value, [x.shape[4]]);
}

/**
 * Sums `[N or 1, C, 2]` over the elements of each channel: of the gradient, and of the gradient times the normalised
 * input. Inputs: x, moments, `dy`, and gamma and beta with `relu`.
 */
const gradientSumsOp = defineOp<{ epsilon: number } & Relu>({
  name: "normalizeGradientSums",
  infer: ([x, moments, dy, gamma, beta], { relu }) => {
    const op = "normalizeGradientSums";
    expectMoments(op, x, moments);
    expectActivation(op, "the output gradient", dy);
    expectSameShape(op, x, dy);
    if (relu) {
      expectChannel(op, "gamma", gamma, x);
      expectChannel(op, "beta", beta, x);
    }
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

/** Inputs: x, moments, gamma, the sums, `dy`, and beta with `relu`. */
const inputGradientOp = defineOp<Affine & Relu>({
  name: "normalizeInputGradient",
  infer: ([x, moments, gamma, sums, dy, beta], { relu }) => {
    const op = "normalizeInputGradient";
    expectMoments(op, x, moments);
    expectChannel(op, "gamma", gamma, x);
    expectShape(op, "the sums", sums, [moments.shape[0], x.shape[4], 2]);
    expectActivation(op, "the output gradient", dy);
    expectSameShape(op, x, dy);
    if (relu) expectChannel(op, "beta", beta, x);
    return x;
  },
  grad: "none",
  flops: perElement(5),
  inPlace: 4,
});

/**
 * The gradients of `normalize`'s inputs x, moments, gamma and beta; with `relu`, of a ReLU behind it, which is open
 * where the normalised input, computed again, is above 0: neither it nor the ReLU's result need be kept.
 */
export function normalizeGradient(
  [x, moments, gamma, beta]: readonly Value[],
  dy: Value,
  { epsilon, batch }: Affine,
  { relu }: Relu,
): (Value | null)[] {
  const sums = gradientSumsOp(relu ? [x, moments, dy, gamma, beta] : [x, moments, dy], { epsilon, relu });
  const inputs = [x, moments, gamma, sums, dy];
  return [
    inputGradientOp(relu ? [...inputs, beta] : inputs, { epsilon, batch, relu }),
    null,
    parameterGradientOp([sums], { which: 1 }),
    parameterGradientOp([sums], { which: 0 }),
  ];
}
