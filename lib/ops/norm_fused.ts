import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type Value } from "../graph/value.ts";
import { relu, reluGradient } from "./activation.ts";
import { add } from "./arithmetic.ts";
import { expectDType, expectSameShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";
import { inferNormalize, normalize, type NormOptions } from "./norm.ts";
import { type Affine, normalizeGradient } from "./norm_gradient.ts";

/**
 * Normalisation with what follows it, in one pass over memory. `fuse` makes them of their base ops when a plan is
 * compiled; their fallbacks say what they compute.
 */
const base = ([x, moments, gamma, beta]: readonly Value[], attributes: Affine): Value =>
  normalize(x, moments, gamma, beta, attributes);

const normalizeReluOp = defineOp<Affine>({
  name: "normalizeRelu",
  infer: (inputs, attributes) => inferNormalize("normalizeRelu", inputs, attributes),
  grad: (inputs, dy, _y, attributes) => normalizeGradient(inputs, dy, attributes, { relu: true }),
  flops: perElement(4),
  inPlace: 0,
  cheap: true,
  fallback: (inputs, attributes) => relu(base(inputs, attributes)),
});

function inferWithResidual(op: string, inputs: readonly Value[], attributes: Affine): Value {
  const [x, , , , residual] = inputs;
  inferNormalize(op, inputs, attributes);
  expectDType(op, "the residual", residual, "f32");
  expectSameShape(op, x, residual);
  return x;
}

const normalizeReluAddOp = defineOp<Affine>({
  name: "normalizeReluAdd",
  infer: (inputs, attributes) => inferWithResidual("normalizeReluAdd", inputs, attributes),
  grad: (inputs, dy, _y, attributes) => [...normalizeGradient(inputs, dy, attributes, { relu: true }), dy],
  flops: perElement(5),
  inPlace: 4,
  cheap: true,
  fallback: (inputs, attributes) => add(relu(base(inputs, attributes)), inputs[4]),
});

const normalizeAddReluOp = defineOp<Affine>({
  name: "normalizeAddRelu",
  infer: (inputs, attributes) => inferWithResidual("normalizeAddRelu", inputs, attributes),
  grad: (inputs, dy, y, attributes) => {
    const open = reluGradient(y, dy);
    return [...normalizeGradient(inputs, open, attributes, { relu: false }), open];
  },
  flops: perElement(5),
  inPlace: 4,
  cheap: true,
  fallback: (inputs, attributes) => relu(add(base(inputs, attributes), inputs[4])),
});

const normalizeReluSumOp = defineOp<Affine>({
  name: "normalizeReluSum",
  infer: (inputs, attributes) => {
    const op = "normalizeReluSum";
    const [x, z] = [inputs.slice(0, 4), inputs.slice(4)].map((own) => inferNormalize(op, own, attributes));
    expectSameShape(op, x, z);
    if (inputs[1].shape[0] !== inputs[5].shape[0])
      throw new ShapeError(
        `${op}: moments ${formatType(inputs[1])} and ${formatType(inputs[5])} must be of as many samples`,
      );
    return x;
  },
  grad: (inputs, dy, _y, attributes) =>
    [inputs.slice(0, 4), inputs.slice(4)].flatMap((own) =>
      normalizeGradient(own, dy, attributes, { relu: true }),
    ),
  flops: perElement(9),
  inPlace: 0,
  cheap: true,
  fallback: (inputs, attributes) =>
    add(relu(base(inputs.slice(0, 4), attributes)), relu(base(inputs.slice(4), attributes))),
});

/** What is normalised: x, its moments, gamma and beta. */
export type Normalized = readonly [Operand, Operand, Operand, Operand];

type FusedOptions = NormOptions & { batch: boolean };

/** `relu(normalize(x, moments, gamma, beta))`; its gradient needs x, not the result. */
export const normalizeRelu = (
  x: Operand,
  moments: Operand,
  gamma: Operand,
  beta: Operand,
  { epsilon = 1e-5, batch }: FusedOptions,
): Value => normalizeReluOp([x, moments, gamma, beta], { epsilon, batch });

/** `relu(normalize(x, moments, gamma, beta)) + residual`, as in additive skips; its gradient needs x. */
export const normalizeReluAdd = (
  x: Operand,
  moments: Operand,
  gamma: Operand,
  beta: Operand,
  residual: Operand,
  { epsilon = 1e-5, batch }: FusedOptions,
): Value => normalizeReluAddOp([x, moments, gamma, beta, residual], { epsilon, batch });

/** `relu(normalize(...a)) + relu(normalize(...b))`, as in additive skips; its gradient needs the x of both. */
export const normalizeReluSum = (
  a: Normalized,
  b: Normalized,
  { epsilon = 1e-5, batch }: FusedOptions,
): Value => normalizeReluSumOp([...a, ...b], { epsilon, batch });

/** `relu(normalize(x, moments, gamma, beta) + residual)`, as in residual blocks; its gradient needs x and the result. */
export const normalizeAddRelu = (
  x: Operand,
  moments: Operand,
  gamma: Operand,
  beta: Operand,
  residual: Operand,
  { epsilon = 1e-5, batch }: FusedOptions,
): Value => normalizeAddReluOp([x, moments, gamma, beta, residual], { epsilon, batch });
