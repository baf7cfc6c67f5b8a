import type { State } from "../../graph/state.ts";
import type { Value } from "../../graph/value.ts";
import type { Network } from "../../models/network.ts";
import type { Mode } from "../../nn/module.ts";
import { add } from "../../ops/arithmetic.ts";
import { segmentationLosses, type SegmentationLosses } from "../../ops/segmentation.ts";
import type { Config } from "../config.ts";

/** What a recipe works with while the step is traced. */
export interface StepContext {
  readonly config: Config;
  readonly networks: readonly Network[];
  /** The running averages of the networks, where `teacherDecay` asks for them. */
  readonly averages?: readonly Network[];
  readonly mode: Mode;
  /** `[L + U, D, H, W, channels]`: labelled patches first; U is 0 for recipes that need no unlabelled ones. */
  readonly image: Value;
  /** `image` as each network sees it: with contrast, brightness and noise of its own where the settings ask for them. */
  readonly views: readonly Value[];
  /** `[L, D, H, W]`. */
  readonly labels: Value;
  /** `[U, D, H, W]`, for recipes that mix: the voxels that unlabelled patches take from the next one. */
  readonly mixMask?: Value;
  /** Scalar: the weight of the unsupervised loss at this step, ramp included. */
  readonly unsupervisedWeight: Value;
  /** A number of the run's own that the recipe keeps from step to step, 0 at first; `Recipe.numbers` lists them. */
  number(name: string): State;
}

export interface StepResult {
  /** One scalar loss per network; each is minimised over that network's parameters alone. */
  readonly losses: readonly Value[];
  /** Further scalars worth a line in the log. */
  readonly metrics: Readonly<Record<string, Value>>;
}

/** A way to train: how the losses of one step come from the batch. */
export interface Recipe {
  readonly name: string;
  readonly summary: string;
  /** Whether batches carry unlabelled patches. */
  readonly unlabeled: boolean;
  /** Whether it mixes unlabelled patches by `cutMixBoxes`. */
  readonly mixes?: boolean;
  /** How many networks it trains; undefined: any number. */
  readonly networks?: number;
  /** Names of the numbers that it keeps from step to step. */
  numbers?(config: Config): readonly string[];
  /** What it changes of the presets, by their names. */
  readonly presets?: Readonly<Record<string, Partial<Config>>>;
  step(context: StepContext): StepResult;
}

export interface Supervision extends SegmentationLosses {
  /** Cross-entropy + Dice loss, or cross-entropy alone, as `labelLoss` has it. */
  readonly loss: Value;
}

/** The losses of labelled patches, and of their foreground squared error where `mask` is given and set. */
export function supervise(logits: Value, labels: Value, config: Config, mask?: Value): Supervision {
  const losses = segmentationLosses(logits, labels, {
    squared: config.dice === "squared",
    smooth: config.diceSmooth,
    mask,
  });
  const { crossEntropy, dice } = losses;
  return { ...losses, loss: config.labelLoss === "crossEntropy" ? crossEntropy : add(crossEntropy, dice) };
}
