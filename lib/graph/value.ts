import type { Graph } from "./graph.ts";
import type { State } from "./state.ts";

/**
 * Element types: 32-bit float for all arithmetic, unsigned byte and 32-bit integer for labels, masks and random keys.
 * bfloat16, the upper half of a float, is how the compiler stores activations between kernels where it is told to.
 */
export type DType = "f32" | "u8" | "i32" | "bf16";

/** Extents from the outermost axis to the innermost; `[]` is a scalar. Activations are `[N, D, H, W, C]`. */
export type Shape = readonly number[];

export type Attribute = number | boolean | string | readonly number[];
export type Attributes = Readonly<Record<string, Attribute>>;

/** What an op yields: its element type and extents. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** One node of a graph, and the tensor it yields. Made by ops; never changed afterwards. */
export interface Value extends TensorType {
  readonly id: number;
  readonly op: string;
  readonly inputs: readonly Value[];
  readonly attributes: Attributes;
  readonly graph: Graph;
  /** The part of a network it was traced in, for printed plans and messages. */
  readonly scope: string;
}

/** What an op takes: a node of a graph, or a state, which is read in the graph of the other operands. */
export type Operand = Value | State;

export const bytesOf: Readonly<Record<DType, number>> = { f32: 4, u8: 1, i32: 4, bf16: 2 };

/** Number of elements; exact up to 2^53. */
export function elements(shape: Shape): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

export function byteLength(type: TensorType): number {
  return elements(type.shape) * bytesOf[type.dtype];
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((extent, axis) => extent === b[axis]);
}

/** `f32[2,8,8,8,1]`, as error messages and printed plans show a tensor. */
export function formatType(type: TensorType): string {
  return `${type.dtype}[${type.shape.join(",")}]`;
}
