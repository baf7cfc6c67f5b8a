import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectShape } from "./check.ts";
import { defineOp, perElement } from "./define.ts";

/** Checks the key and the stream that every random op draws from. */
export function expectRandom(op: string, key: TensorType, stream: number): void {
  expectDType(op, "the key", key, "i32");
  expectShape(op, "the key", key, [2]);
  if (!Number.isInteger(stream) || stream < 0 || stream > 0xffffffff)
    throw new ShapeError(`${op}: the stream must be a whole number from 0 to 2^32 - 1, found ${stream}`);
}

const dropoutOp = defineOp<{ rate: number; stream: number; channels: boolean }>({
  name: "dropout",
  infer: ([x, key], { rate, stream, channels }) => {
    expectDType("dropout", "the operand", x, "f32");
    expectRandom("dropout", key, stream);
    if (!(rate >= 0 && rate < 1))
      throw new ShapeError(`dropout: the rate must be at least 0 and below 1, found ${rate}`);
    if (channels && x.shape.length < 2)
      throw new ShapeError(`dropout: whole channels need [N, ..., C], found ${formatType(x)}`);
    return x;
  },
  grad: ([, key], dy, _y, attributes): (Value | null)[] => [dropoutOp([dy, key], attributes), null],
  flops: perElement(1),
  inPlace: 0,
  cheap: true,
});

const gaussianNoiseOp = defineOp<{ stddev: number; stream: number }>({
  name: "gaussianNoise",
  infer: ([x, key], { stddev, stream }) => {
    expectDType("gaussianNoise", "the operand", x, "f32");
    expectRandom("gaussianNoise", key, stream);
    if (!(stddev >= 0 && Number.isFinite(stddev)))
      throw new ShapeError(`gaussianNoise: the standard deviation must be at least 0, found ${stddev}`);
    return x;
  },
  grad: (_inputs, dy) => [dy, null],
  flops: perElement(40),
  inPlace: 0,
});

/**
 * Sets each element to 0 with probability `rate` and multiplies the others by `1 / (1 - rate)` (Srivastava et al.,
 * "Dropout", JMLR 15, 2014, inverted). With `channels`, whole channels of a sample at once: one draw for each
 * (n, c) of `[N, ..., C]` (Tompson et al., CVPR 2015; PyTorch's `Dropout3d`).
 *
 * `key` is an i32 `[2]` fed at each run, for instance (seed, step). Element i, or channel i = n C + c, uses word i mod 4 of the
 * Philox4x32-10 block with counter (i div 4, its high word, stream, 0), and is dropped when that word is below
 * `rate * 2^32`. Layers take different `stream` numbers to drop independently. The gradient draws again.
 */
export const dropout = (
  x: Operand,
  key: Operand,
  { rate, stream, channels = false }: { rate: number; stream: number; channels?: boolean },
): Value => dropoutOp([x, key], { rate, stream, channels });

/**
 * `x + stddev * n` with independent standard normal n (Box and Muller, 1958). `key` and `stream` as for `dropout`: words (w0, w1) of
 * block i make elements 4i and 4i + 1, `r cos` and `r sin` of `2 pi u(w1)` with `r = sqrt(-2 ln(u(w0) + 2^-24))`,
 * (w2, w3) the next two; `u(w)` is the upper 24 bits of w divided by 2^24.
 */
export const gaussianNoise = (
  x: Operand,
  key: Operand,
  { stddev, stream }: { stddev: number; stream: number },
): Value => gaussianNoiseOp([x, key], { stddev, stream });
