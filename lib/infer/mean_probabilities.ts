import type { Value } from "../graph/value.ts";
import type { Network } from "../models/network.ts";
import { add, scale } from "../ops/arithmetic.ts";
import { softmax } from "../ops/softmax.ts";

/** Class probabilities `[N, D, H, W, classes]` of an image, averaged over networks. */
export function meanProbabilities(networks: readonly Network[], image: Value): Value {
  const each = networks.map((network) => softmax(network.apply(image)));
  const total = each.reduce((left, right) => add(left, right));
  return each.length === 1 ? total : scale(total, 1 / each.length);
}
