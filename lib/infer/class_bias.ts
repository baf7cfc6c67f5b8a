import { UsageError } from "../errors.ts";

/** Largest bias in size: e^50 and its reciprocal leave float32 probabilities well inside the range of a double. */
const mostBias = 50;

/**
 * What the probability of each class is multiplied by so that `bias` is added to its logit: softmax(x + b) is
 * `p_c e^(b_c) / sum_k p_k e^(b_k)` of p = softmax(x), and the sum does not change which class is largest. On the output
 * of one network in one window this is the bias before softmax of Dong et al. (FLARE22, section 2.3). On averaged
 * probabilities it is a bias on the logarithm of the average: the prior of a class is multiplied by `e^(b_c)` once,
 * however many windows and networks are averaged. Throws UsageError unless there is one bias per class, each
 * finite and from -50 to 50; without `bias` all factors are 1.
 */
export function biasFactors(classes: number, bias?: readonly number[]): Float64Array {
  if (bias === undefined) return new Float64Array(classes).fill(1);
  if (bias.length !== classes)
    throw new UsageError(
      `class bias: expected ${classes} numbers, one per class, background first; found ${bias.length}`,
    );
  const wrong = bias.find((each) => !(Math.abs(each) <= mostBias));
  if (wrong !== undefined)
    throw new UsageError(`class bias: must lie between -${mostBias} and ${mostBias}, found ${wrong}`);
  return Float64Array.from(bias, Math.exp);
}
