import { graphOf } from "../graph/graph.ts";
import { checkShape, State } from "../graph/state.ts";
import type { Attributes, Operand, TensorType, Value } from "../graph/value.ts";

/** Everything voxgrad knows about an op besides how to run it. The kernel has the same name in every backend. */
export interface Op<A extends Attributes> {
  readonly name: string;
  /** Element type and extents of the result; throws `ShapeError` naming the op and the shapes it was given. */
  infer(inputs: readonly Value[], attributes: A): TensorType;
  /**
   * The gradient with respect to each input, given that of the output; `null` where none flows.
   * `"none"` for an op that has no gradient at all: whatever is behind it counts as constant.
   */
  readonly grad:
    | "none"
    | ((inputs: readonly Value[], gradient: Value, output: Value, attributes: A) => (Value | null)[]);
  /** Floating-point operations of one run, a multiply-add counting two. */
  flops(inputs: readonly Value[], output: TensorType, attributes: A): number;
  /** The input whose memory the result may take over, element by element, when nothing else needs it. */
  readonly inPlace?: number;
  /** Whether the result, where it depends on states alone, is kept between runs for as long as those stay as they are. */
  readonly keep?: boolean;
  /** Takes about as long as copying its operands: rather computed again than kept where memory is scarce. */
  readonly cheap?: boolean;
  /** The same in base ops, from inputs of the same graph: defines a fused op, and is what it is tested against. */
  readonly fallback?: (inputs: readonly Value[], attributes: A) => Value;
}

/** Adds an op to the graph of its operands. */
export type AddOp<A extends Attributes> = (operands: readonly Operand[], attributes: A) => Value;

const table = new Map<string, Op<Attributes>>();

/** Registers an op and returns the function that adds it to a graph. */
export function defineOp<A extends Attributes = Record<never, never>>(op: Op<A>): AddOp<A> {
  if (table.has(op.name)) throw new Error(`op ${op.name} is defined twice`);
  table.set(op.name, op as unknown as Op<Attributes>);
  return (operands, attributes) => {
    const graph = graphOf(op.name, operands);
    const inputs = operands.map((operand) => (operand instanceof State ? graph.read(operand) : operand));
    const type = op.infer(inputs, attributes);
    checkShape(type.shape, op.name);
    return graph.add(op.name, inputs, attributes, type);
  };
}

/** The rules of an op by name; leaves (`input`, `state`) have none. */
export function opOf(value: Value): Op<Attributes> | undefined {
  return table.get(value.op);
}

/** Names of all ops, for the tests that hold the backends and the documentation against them. */
export function opNames(): string[] {
  return [...table.keys()].sort();
}

/** One operation per element of the result: the count for elementwise ops. */
export function perElement(count: number): (inputs: readonly Value[], output: TensorType) => number {
  return (_inputs, output) => count * output.shape.reduce((product, extent) => product * extent, 1);
}
