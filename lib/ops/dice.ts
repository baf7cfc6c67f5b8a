import { ShapeError } from "../errors.ts";
import { elements, formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectShape, expectVoxels } from "./check.ts";
import { defineOp, perElement } from "./define.ts";
import { expectChannels } from "./softmax.ts";

/** For every sample and class the sums that Dice is made of: `[N, C, 3]` of p g, of p or p^2, and of g. */
type DiceSums = {
  squared: boolean;
};

function diceSumsType(op: string, probabilities: Value, labels: Value): TensorType {
  expectChannels(op, "probabilities", probabilities);
  expectVoxels(op, "labels", labels, probabilities, "u8", "i32");
  const { shape } = probabilities;
  return { dtype: "f32", shape: [shape[0], shape[shape.length - 1], 3] };
}

const diceSumsOp = defineOp<DiceSums>({
  name: "diceSums",
  infer: ([probabilities, labels]) => diceSumsType("diceSums", probabilities, labels),
  grad: ([probabilities, labels], dy, _y, attributes) => [
    diceSumsGradOp([probabilities, labels, dy], attributes),
    null,
  ],
  flops: ([probabilities]) => 5 * elements(probabilities.shape),
});

const diceSumsGradOp = defineOp<DiceSums>({
  name: "diceSumsGradient",
  infer: ([probabilities, labels, dy]) => {
    const { shape } = diceSumsType("diceSumsGradient", probabilities, labels);
    expectShape("diceSumsGradient", "the gradient", dy, shape);
    return probabilities;
  },
  grad: "none",
  flops: perElement(5),
  inPlace: 0,
});

type DiceOfSums = {
  /** The first rows of sums, one to a class; others may follow. */
  classes: number;
  smooth: number;
  background: boolean;
  perSample: boolean;
};

function checkDiceOfSums(op: string, sums: Value, { classes, smooth, background }: DiceOfSums): void {
  expectDType(op, "the sums", sums, "f32");
  if (sums.shape.length !== 3 || !(classes >= 1 && classes <= sums.shape[1]) || sums.shape[2] !== 3)
    throw new ShapeError(
      `${op}: the sums of ${classes} classes must be [N, C, 3], C not less than that, found ${formatType(sums)}`,
    );
  if (!(smooth > 0 && Number.isFinite(smooth)))
    throw new ShapeError(`${op}: smooth must be above 0, found ${smooth}`);
  if (!background && classes < 2)
    throw new ShapeError(`${op}: without the background no class is left of 1; pass background: true`);
}

const diceOfSumsOp = defineOp<DiceOfSums>({
  name: "diceOfSums",
  infer: ([sums], attributes) => {
    checkDiceOfSums("diceOfSums", sums, attributes);
    return { dtype: "f32", shape: [] };
  },
  grad: ([sums], dy, _y, attributes) => [diceOfSumsGradOp([sums, dy], attributes)],
  flops: ([sums]) => 2 * elements(sums.shape),
});

const diceOfSumsGradOp = defineOp<DiceOfSums>({
  name: "diceOfSumsGradient",
  infer: ([sums, dy], attributes) => {
    checkDiceOfSums("diceOfSumsGradient", sums, attributes);
    expectShape("diceOfSumsGradient", "the gradient", dy, []);
    return sums;
  },
  grad: "none",
  flops: perElement(2),
});

export interface DiceOptions {
  /** Denominators of p^2 instead of p. */
  readonly squared?: boolean;
  readonly smooth?: number;
  /** Whether class 0 takes part. */
  readonly background?: boolean;
  /** Sums over each sample by itself, and the mean over samples too. */
  readonly perSample?: boolean;
}

/** The Dice loss of sums `[N, C, 3]`, the first `classes` rows of which are those of classes; see `dice`. */
export const diceOfSums = (
  sums: Operand,
  classes: number,
  { smooth = 1e-5, background = false, perSample = false }: DiceOptions = {},
): Value => diceOfSumsOp([sums], { classes, smooth, background, perSample });

/**
 * Dice loss of `[N, D, H, W, C]` probabilities p against labels `[N, D, H, W]` (u8 or i32; g is their one-hot form), as a
 * scalar: the mean over classes of `1 - (2 sum p g + smooth) / (sum q + sum g + smooth)`, where q is p^2 when `squared` (Milletari
 * et al., "V-Net", 3DV 2016) and p otherwise (SD-Net, eq. 5 with the evidently misprinted logarithm left out).
 *
 * The sums run over the whole batch, or over each sample with `perSample`, the mean then being over samples too. Class 0
 * takes part only with `background`. Voxels whose label is no class are left out of all sums.
 */
export const dice = (probabilities: Operand, labels: Operand, options: DiceOptions = {}): Value => {
  const sums = diceSumsOp([probabilities, labels], { squared: options.squared ?? true });
  return diceOfSums(sums, sums.shape[1], options);
};
