import type { Value } from "../../graph/value.ts";
import { argmax, notEqual } from "../../ops/argmax.ts";
import { fill } from "../../ops/arithmetic.ts";
import { constant } from "../../ops/constant.ts";
import { concat } from "../../ops/shape.ts";
import { softmax } from "../../ops/softmax.ts";
import type { Config } from "../config.ts";
import type { StepContext } from "./recipe.ts";

/**
 * Logits that network `index` teaches with on `image`, no part of which is learnt from: those of its running average, or of itself.
 * Batch norm takes the statistics of `image`.
 */
export function teach({ networks, averages, mode }: StepContext, index: number, image: Value): Value {
  const teacher = (averages ?? networks)[index];
  return teacher.apply(image, { ...mode, statistics: "keep", dropout: false });
}

/**
 * u8 `[N, D, H, W]`: 1 where the most probable class of `logits` has a probability above `confidence` (Sohn et al. 2020, "FixMatch",
 * eq. 4); undefined where all voxels count.
 */
export function confident(logits: Value, { confidence }: Config): Value | undefined {
  if (confidence === 0) return undefined;
  const threshold = fill(constant(logits.graph, confidence), [...logits.shape.slice(0, -1), 1]);
  // The threshold as class 0 of the comparison; it is the largest where nothing is above it.
  const largest = argmax(concat([threshold, softmax(logits)], { axis: -1 }));
  return notEqual(largest, argmax(threshold));
}
