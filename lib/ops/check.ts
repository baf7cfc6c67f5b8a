import { nearest, ShapeError } from "../errors.ts";
import { type DType, formatType, sameShape, type TensorType } from "../graph/value.ts";

/** Shape and dtype checks that op rules share; each throws a `ShapeError` that names the op and what it found. */

export function expectRank(op: string, what: string, value: TensorType, rank: number): void {
  if (value.shape.length !== rank)
    throw new ShapeError(`${op}: ${what} must have ${rank} axes, found ${formatType(value)}`);
}

export function expectDType(op: string, what: string, value: TensorType, ...allowed: DType[]): void {
  if (!allowed.includes(value.dtype))
    throw new ShapeError(`${op}: ${what} must be ${allowed.join(" or ")}, found ${formatType(value)}`);
}

export function expectSameShape(op: string, a: TensorType, b: TensorType): void {
  if (!sameShape(a.shape, b.shape))
    throw new ShapeError(`${op}: shapes must be equal, found ${formatType(a)} and ${formatType(b)}`);
}

export function expectShape(op: string, what: string, value: TensorType, shape: readonly number[]): void {
  if (!sameShape(value.shape, shape))
    throw new ShapeError(`${op}: ${what} must have shape [${shape.join(",")}], found ${formatType(value)}`);
}

/** Refuses an option that `op` does not know, which a script in JavaScript would otherwise believe to be heeded. */
export function expectOptions<O extends object>(
  op: string,
  options: O,
  known: Readonly<Record<keyof O, true>>,
): void {
  const names = Object.keys(known);
  for (const name of Object.keys(options)) {
    if (names.includes(name)) continue;
    const hint = nearest(name, names);
    throw new ShapeError(
      `${op}: unknown option "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${names.join(", ")}`,
    );
  }
}

/** A float tensor `[N, D, H, W, C]`. */
export function expectActivation(op: string, what: string, value: TensorType): void {
  expectDType(op, what, value, "f32");
  expectRank(op, `${what} [N, D, H, W, C]`, value, 5);
}

/** Checks labels, or a mask, against the `[N, ..., C]` tensor that they belong to. */
export function expectVoxels(
  op: string,
  what: string,
  value: TensorType,
  x: TensorType,
  ...dtypes: ("u8" | "i32")[]
): void {
  expectDType(op, what, value, ...dtypes);
  expectShape(op, what, value, x.shape.slice(0, -1));
}
