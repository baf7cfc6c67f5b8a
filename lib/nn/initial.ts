import type { Initial } from "../graph/state.ts";
import { elements, type Shape } from "../graph/value.ts";
import { Random } from "../random.ts";

/** Hands every layer of a network random streams of its own, in the order of construction. */
export class Seeds {
  readonly seed: number;
  private next = 0;

  constructor(seed: number) {
    this.seed = seed;
  }

  /** A stream that no other layer of the network has. */
  stream(): Random {
    return new Random(this.seed, this.next++);
  }
}

/** Normal with variance 2 / fanIn, for layers followed by ReLU (He et al. 2015, eq. 10). */
export function kaimingNormal(shape: Shape, fanIn: number, random: Random): Initial {
  const deviation = Math.sqrt(2 / fanIn);
  return () => Float32Array.from({ length: elements(shape) }, () => deviation * random.normal());
}

/** Uniform between ± 1 / sqrt(fanIn): what the field's networks start their biases from. */
export function uniformBias(shape: Shape, fanIn: number, random: Random): Initial {
  const bound = 1 / Math.sqrt(fanIn);
  return () => Float32Array.from({ length: elements(shape) }, () => random.between(-bound, bound));
}
