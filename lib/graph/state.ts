import { ShapeError } from "../errors.ts";
import { type DType, elements, type Shape, type TensorType } from "./value.ts";

/** Elements as JavaScript holds them; bf16 as its 16 bits. */
export type TypedArray = Float32Array | Uint8Array | Int32Array | Uint16Array;

/** What a state starts from: a constant for all elements, or values made once when a device first needs them. */
export type Initial = number | (() => TypedArray);

/**
 * A tensor that outlives a step: a weight, a momentum, a running statistic. Graphs read it with `graph.read` and
 * give it its next value with `graph.assign`; its contents live on the device and every plan shares them.
 */
export class State implements TensorType {
  /** What plans and messages call it. */
  name: string;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly initial: Initial;

  constructor(name: string, shape: Shape, options: { dtype?: DType; initial?: Initial } = {}) {
    checkShape(shape, `state "${name}"`);
    this.name = name;
    this.shape = [...shape];
    this.dtype = options.dtype ?? "f32";
    this.initial = options.initial ?? 0;
  }

  /** Number of elements. */
  get size(): number {
    return elements(this.shape);
  }
}

/** Throws `ShapeError` unless every extent is a positive whole number and the tensor stays below 2^40 bytes. */
export function checkShape(shape: Shape, what: string): void {
  if (shape.length > 6) throw new ShapeError(`${what}: at most 6 axes, found [${shape.join(",")}]`);
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 1)
      throw new ShapeError(`${what}: extents must be positive whole numbers, found [${shape.join(",")}]`);
  }
  if (elements(shape) > 2 ** 38)
    throw new ShapeError(`${what}: [${shape.join(",")}] has more than 2^38 elements`);
}
