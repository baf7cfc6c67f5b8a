import { ShapeError } from "../errors.ts";
import { elements, formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectActivation, expectDType, expectRank } from "./check.ts";
import { perAxis, type PerAxis, weightGradientOp } from "./conv.ts";
import { type AddOp, defineOp } from "./define.ts";
import { slice } from "./shape.ts";

/** `[D, H, W]` of every branch, one behind the other. */
export type Branches = { readonly dilations: readonly number[] };
type Branch = Branches & { readonly branch: number; readonly shape: readonly number[] };

const most = 16;

function checkBranches(op: string, count: number, { dilations }: Branches): void {
  if (count < 1 || count > most)
    throw new ShapeError(`${op}: there must be 1 to ${most} branches, found ${count}`);
  if (dilations.length !== 3 * count)
    throw new ShapeError(`${op}: ${count} branches need as many dilations, found ${dilations.length / 3}`);
  if (!dilations.every((n) => Number.isInteger(n) && n >= 1 && n <= 32768))
    throw new ShapeError(`${op}: dilations must be whole numbers from 1 to 32768, found ${dilations.join()}`);
}

function checkWeights(op: string, weights: readonly TensorType[], branches: Branches): void {
  checkBranches(op, weights.length, branches);
  for (const w of weights) {
    expectDType(op, "a weight", w, "f32");
    expectRank(op, "a weight [Cout, kD, kH, kW, Cin]", w, 5);
  }
  const [{ shape: first }] = weights;
  const fits = ({ shape }: TensorType) => shape[0] === first[0] && shape[4] === first[4];
  if (!weights.every(fits) || weights.some(({ shape }) => shape.slice(1, 4).some((n) => n % 2 === 0)))
    throw new ShapeError(
      `${op}: the weights must have the same channels and odd kernels, found ${weights.map(formatType).join(", ")}`,
    );
}

/** The attributes of branch `index` as a convolution of its own, whose result is as large as its input. */
export function windowOfBranch({ dilations }: Branches, index: number, kernel: readonly number[]) {
  const dilation = dilations.slice(3 * index, 3 * index + 3);
  const padding = dilation.map((distance, axis) => (distance * (kernel[axis] - 1)) / 2);
  return { stride: [1, 1, 1], padding, dilation, groups: 1 };
}

const voxels = ({ shape }: TensorType) => elements(shape.slice(0, 4));
const flopsOf = (over: TensorType, weights: readonly TensorType[]) =>
  weights.reduce((all, { shape }) => all + 2 * voxels(over) * elements(shape), 0);

const asppOp: AddOp<Branches> = defineOp({
  name: "aspp",
  infer: ([x, ...weights], branches) => {
    expectActivation("aspp", "the input", x);
    checkWeights("aspp", weights, branches);
    if (weights[0].shape[4] !== x.shape[4])
      throw new ShapeError(
        `aspp: weight ${formatType(weights[0])} does not fit the channels of ${formatType(x)}`,
      );
    return { dtype: "f32", shape: [...x.shape.slice(0, 4), weights.length * weights[0].shape[0]] };
  },
  grad: ([x, ...weights], dy, _y, { dilations }) => [
    inputGradientOp([dy, ...weights], { dilations }),
    ...weights.map(({ shape }, branch) => asppWeightGradientOp([x, dy], { dilations, branch, shape })),
  ],
  flops: ([x, ...weights]) => flopsOf(x, weights),
});

const inputGradientOp: AddOp<Branches> = defineOp({
  name: "asppInputGradient",
  infer: ([dy, ...weights], branches) => {
    const op = "asppInputGradient";
    expectActivation(op, "the output gradient", dy);
    checkWeights(op, weights, branches);
    const [w] = weights;
    if (dy.shape[4] !== weights.length * w.shape[0])
      throw new ShapeError(
        `${op}: ${formatType(dy)} does not have the output channels of ${weights.length} times ${formatType(w)}`,
      );
    return { dtype: "f32", shape: [...dy.shape.slice(0, 4), w.shape[4]] };
  },
  grad: "none",
  flops: ([dy, ...weights]) => flopsOf(dy, weights),
});

/** Of one branch, `[x, dy]`, dy being that of all; the scheduler makes one kernel call of those of all branches. */
const asppWeightGradientOp: AddOp<Branch> = defineOp({
  name: "asppWeightGradient",
  infer: ([x, dy], { branch, shape, dilations }) => {
    const op = "asppWeightGradient";
    expectActivation(op, "the input", x);
    expectActivation(op, "the output gradient", dy);
    const count = dilations.length / 3;
    checkBranches(op, count, { dilations });
    const fits =
      shape.length === 5 &&
      [0, 1, 2, 3].every((axis) => x.shape[axis] === dy.shape[axis]) &&
      x.shape[4] === shape[4] &&
      dy.shape[4] === count * shape[0];
    if (!fits || !Number.isInteger(branch) || branch < 0 || branch >= count)
      throw new ShapeError(
        `${op}: a weight [${shape.join(",")}] of branch ${branch} of ${count} does not fit ${formatType(x)} and ${formatType(dy)}`,
      );
    return { dtype: "f32", shape };
  },
  grad: "none",
  flops: ([x], w) => flopsOf(x, [w]),
  fallback: ([x, dy], { branch, shape, ...branches }) =>
    weightGradientOp([x, slice(dy, { axis: 4, start: branch * shape[0], length: shape[0] })], {
      ...windowOfBranch(branches, branch, shape.slice(1, 4)),
      shape,
    }),
});

/**
 * Convolutions of one `x` `[N, D, H, W, Cin]` with several `weights` `[Cout, kD, kH, kW, Cin]` side by side, those of
 * branch i with taps `dilations[i]` apart, padded so that results are as large as x: joined to `[N, D, H, W, branches * Cout]`,
 * the heart of atrous spatial pyramid pooling (Chen et al. 2017, "Rethinking atrous convolution"). Kernels have odd extents.
 */
export function aspp(
  x: Operand,
  weights: readonly Operand[],
  { dilations }: { dilations: readonly PerAxis[] },
): Value {
  return asppOp([x, ...weights], { dilations: dilations.flatMap(perAxis) });
}
