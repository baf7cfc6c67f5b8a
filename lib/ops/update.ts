import { ShapeError } from "../errors.ts";
import type { Operand, TensorType, Value } from "../graph/value.ts";
import { expectDType, expectSameShape, expectShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

/** All tensors are floats of one shape, the scalar too. */
function inferUpdate(op: string, tensors: readonly Value[], scalar?: Value): TensorType {
  for (const tensor of tensors) {
    expectDType(op, "an operand", tensor, "f32");
    expectSameShape(op, tensors[0], tensor);
  }
  if (scalar !== undefined) {
    expectDType(op, "the scalar", scalar, "f32");
    expectShape(op, "the scalar", scalar, []);
  }
  return tensors[0];
}

function expectFraction(op: string, what: string, value: number, most: number): void {
  if (!(value >= 0 && value <= most))
    throw new ShapeError(`${op}: ${what} must be from 0 to ${most}, found ${value}`);
}

interface Sgd {
  /** Share of the velocity that is kept, from 0 to 1. */
  momentum: number;
  /** Added to the gradient as `weightDecay * p` (L2); from 0 on. */
  weightDecay: number;
}

function checkSgd(op: string, { momentum, weightDecay }: Sgd): void {
  expectFraction(op, "momentum", momentum, 1);
  expectFraction(op, "weightDecay", weightDecay, Number.MAX_VALUE);
}

const sgdVelocityOp = defineOp<{ momentum: number; weightDecay: number }>({
  name: "sgdVelocity",
  infer: (inputs, attributes) => {
    checkSgd("sgdVelocity", attributes);
    return inferUpdate("sgdVelocity", inputs);
  },
  grad: "none",
  flops: perElement(4),
  inPlace: 0,
});

/** Inputs: parameter, velocity, learning rate, and the gradient when `nesterov`. */
const sgdStepOp = defineOp<{ momentum: number; weightDecay: number; nesterov: boolean }>({
  name: "sgdStep",
  infer: ([p, v, rate, ...gradient], attributes) => {
    checkSgd("sgdStep", attributes);
    return inferUpdate("sgdStep", [p, v, ...gradient], rate);
  },
  grad: "none",
  flops: perElement(6),
  inPlace: 0,
});

/** Inputs: average, value, and the decay when it is not known while tracing; `decay` is 0 then. */
const emaOp = defineOp<{ decay: number }>({
  name: "ema",
  infer: ([average, x, decay], attributes) => {
    expectFraction("ema", "decay", attributes.decay, 1);
    return inferUpdate("ema", [average, x], decay);
  },
  grad: "none",
  flops: perElement(3),
  inPlace: 0,
});

/**
 * The next velocity `momentum * v + (g + weightDecay * p)` of stochastic gradient descent as PyTorch's `SGD` defines it
 * (no dampening; a velocity that starts from 0 equals PyTorch's first step). All operands have one shape; `v` may be
 * updated in place.
 */
export const sgdVelocity = (v: Operand, g: Operand, p: Operand, { momentum, weightDecay }: Sgd): Value =>
  sgdVelocityOp([v, g, p], { momentum, weightDecay });

/**
 * The next parameter from the new velocity `v` of `sgdVelocity`: `p - rate * v`, or with `nesterov`
 * `p - rate * ((g + weightDecay * p) + momentum * v)`, as PyTorch's `SGD` (Sutskever et al., "On the importance of
 * initialization and momentum in deep learning", ICML 2013, in its reformulation). `rate` is a float scalar;
 * `p` may be updated in place.
 */
export const sgdStep = (
  p: Operand,
  v: Operand,
  g: Operand,
  rate: Operand,
  { momentum, weightDecay, nesterov = false }: Sgd & { nesterov?: boolean },
): Value => sgdStepOp(nesterov ? [p, v, rate, g] : [p, v, rate], { momentum, weightDecay, nesterov });

/**
 * The exponential moving average `decay * average + (1 - decay) * x` of a teacher network (Tarvainen and Valpola, "Mean
 * teachers are better role models", NIPS 2017, eq. 2). `decay` is a number from 0 to 1, or a float scalar fed
 * at each run, for a decay that grows with the step. `average` may be updated in place.
 */
export const ema = (average: Operand, x: Operand, { decay }: { decay: number | Operand }): Value =>
  typeof decay === "number" ? emaOp([average, x], { decay }) : emaOp([average, x, decay], { decay: 0 });
