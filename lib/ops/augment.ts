import { ShapeError } from "../errors.ts";
import { formatType, type Operand, type TensorType, type Value } from "../graph/value.ts";
import { expectDType, expectRank } from "./check.ts";
import { defineOp, perElement } from "./define.ts";
import { expectRandom } from "./dropout.ts";

/** Images are f32 `[N, D, H, W, C]`, labels u8 `[N, D, H, W]`. */
function expectImageOrLabels(op: string, x: TensorType): void {
  const image = x.dtype === "f32" && x.shape.length === 5;
  const labels = x.dtype === "u8" && x.shape.length === 4;
  if (!image && !labels)
    throw new ShapeError(`${op}: expected f32 [N, D, H, W, C] or u8 [N, D, H, W], found ${formatType(x)}`);
}

const randomFlipOp = defineOp<{ axes: readonly number[]; stream: number }>({
  name: "randomFlip",
  infer: ([x, key], { axes, stream }) => {
    expectImageOrLabels("randomFlip", x);
    expectRandom("randomFlip", key, stream);
    if (!axes.every((axis) => [1, 2, 3].includes(axis)) || new Set(axes).size !== axes.length)
      throw new ShapeError(
        `randomFlip: axes must be among 1, 2 and 3, each once, found [${axes.join(", ")}]`,
      );
    return x;
  },
  grad: "none",
  flops: perElement(0),
});

const randomRotateOp = defineOp<{ degrees: number; plane: number; stream: number; fill: number }>({
  name: "randomRotate",
  infer: ([x, key], { degrees, plane, stream, fill }) => {
    expectImageOrLabels("randomRotate", x);
    expectRandom("randomRotate", key, stream);
    if (![1, 2, 3].includes(plane))
      throw new ShapeError(`randomRotate: the axis to rotate about must be 1, 2 or 3, found ${plane}`);
    if (!(degrees >= 0 && degrees <= 180))
      throw new ShapeError(`randomRotate: degrees must be from 0 to 180, found ${degrees}`);
    if (!Number.isFinite(fill) || (x.dtype === "u8" && !(Number.isInteger(fill) && fill >= 0 && fill <= 255)))
      throw new ShapeError(`randomRotate: ${formatType(x)} cannot be filled with ${fill}`);
    return x;
  },
  grad: "none",
  flops: perElement(12),
});

const randomIntensityOp = defineOp<{ contrast: number; brightness: number; stream: number }>({
  name: "randomIntensity",
  infer: ([x, key], { contrast, brightness, stream }) => {
    expectDType("randomIntensity", "the image", x, "f32");
    expectRank("randomIntensity", "the image [N, D, H, W, C]", x, 5);
    expectRandom("randomIntensity", key, stream);
    if (!(contrast >= 0 && contrast <= 1))
      throw new ShapeError(`randomIntensity: contrast must be from 0 to 1, found ${contrast}`);
    if (!(brightness >= 0 && Number.isFinite(brightness)))
      throw new ShapeError(`randomIntensity: brightness must be at least 0, found ${brightness}`);
    return x;
  },
  grad: "none",
  flops: perElement(2),
  inPlace: 0,
});

/**
 * Mirrors each sample along each of `axes` (1, 2, 3 being D, H, W) with probability 1/2. `x` is an image, f32
 * `[N, D, H, W, C]`, or labels, u8 `[N, D, H, W]`; the same `key` and `stream` flip both alike. Axis a of sample n is flipped
 * when the highest bit of word a - 1 of the Philox4x32-10 block with counter (n, 0, stream, 0) is set. No gradient.
 */
export const randomFlip = (
  x: Operand,
  key: Operand,
  { axes, stream }: { axes: readonly number[]; stream: number },
): Value => randomFlipOp([x, key], { axes: [...axes], stream });

/**
 * Turns each sample about the axis `plane` (1, 2, 3 being D, H, W; default 1, within slices) and the middle of its volume by an
 * angle uniform in [-degrees, degrees]: positive from the first towards the second of the other two axes. Images (f32
 * `[N, D, H, W, C]`) are interpolated linearly, labels (u8 `[N, D, H, W]`) take the nearest voxel; what comes from outside
 * is `fill`. Voxels are taken as square within the plane. The same `key` and `stream` turn image and labels alike: the
 * angle is `(2 w / 2^32 - 1) * degrees` for word 3 of the Philox4x32-10 block with counter (n, 0, stream, 0). No gradient.
 */
export const randomRotate = (
  x: Operand,
  key: Operand,
  {
    degrees,
    plane = 1,
    stream,
    fill = 0,
  }: { degrees: number; plane?: number; stream: number; fill?: number },
): Value => randomRotateOp([x, key], { degrees, plane, stream, fill });

/**
 * Changes contrast and brightness of each sample of an image, f32 `[N, D, H, W, C]`: `x * (1 + contrast * u0) + brightness * u1`
 * with u0 and u1 uniform in [-1, 1), being `2 w / 2^32 - 1` for words 0 and 1 of the Philox4x32-10 block with
 * counter (n, 0, stream, 0). In units of the image: after a z-score, brightness counts standard deviations. No gradient.
 */
export const randomIntensity = (
  x: Operand,
  key: Operand,
  { contrast, brightness, stream }: { contrast: number; brightness: number; stream: number },
): Value => randomIntensityOp([x, key], { contrast, brightness, stream });
