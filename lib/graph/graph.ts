import { ShapeError } from "../errors.ts";
import { checkShape, State } from "./state.ts";
import {
  type Attributes,
  type DType,
  formatType,
  type Operand,
  sameShape,
  type Shape,
  type TensorType,
  type Value,
} from "./value.ts";

/** The next value of a state, given to it when the step ends. */
export interface Assignment {
  readonly state: State;
  readonly value: Value;
}

/**
 * A static computation: what a step reads, computes, returns and updates. Shapes are fixed while it is traced.
 * Nodes are kept in the order they were made, so inputs always stand before their users.
 */
export class Graph {
  readonly nodes: Value[] = [];
  readonly inputs = new Map<string, Value>();
  readonly outputs = new Map<string, Value>();
  readonly assignments: Assignment[] = [];
  private readonly reads = new Map<State, Value>();
  private readonly statesByRead = new Map<Value, State>();
  private scopeName = "";

  /** A tensor that the caller hands over at every run. */
  input(name: string, shape: Shape, dtype: DType = "f32"): Value {
    if (this.inputs.has(name)) throw new ShapeError(`graph: two inputs are called "${name}"`);
    checkShape(shape, `input "${name}"`);
    const value = this.add("input", [], { name }, { shape: [...shape], dtype });
    this.inputs.set(name, value);
    return value;
  }

  /** The contents of a state as the step begins, whatever is assigned to it later. */
  read(state: State): Value {
    let value = this.reads.get(state);
    if (value === undefined) {
      value = this.add("state", [], { name: state.name }, state);
      this.reads.set(state, value);
      this.statesByRead.set(value, state);
    }
    return value;
  }

  /** Gives `state` the contents of `value` once everything else of the step is done. */
  assign(state: State, value: Value): void {
    if (value.dtype !== state.dtype || !sameShape(value.shape, state.shape))
      throw new ShapeError(
        `assign to "${state.name}": expected ${formatType(state)}, found ${formatType(value)}`,
      );
    if (this.assignments.some((assignment) => assignment.state === state))
      throw new ShapeError(`assign to "${state.name}": it already has a next value in this graph`);
    // A bare read would follow the state that it reads; its contents are taken before anything is updated.
    const source = value.op === "state" ? this.add("copy", [value], {}, value) : value;
    this.assignments.push({ state, value: source });
  }

  /** Returns `value` to the caller of every run under `name`. */
  output(name: string, value: Value): void {
    if (this.outputs.has(name)) throw new ShapeError(`graph: two outputs are called "${name}"`);
    this.outputs.set(name, value);
  }

  /** Runs `trace` with `name` as what printed plans and messages call the nodes made meanwhile. */
  scope<T>(name: string, trace: () => T): T {
    const outer = this.scopeName;
    this.scopeName = name;
    try {
      return trace();
    } finally {
      this.scopeName = outer;
    }
  }

  /** The states that this graph reads or assigns. */
  states(): State[] {
    return [...new Set([...this.reads.keys(), ...this.assignments.map(({ state }) => state)])];
  }

  /** The state behind a node made by `read`. */
  stateOf(value: Value): State | undefined {
    return this.statesByRead.get(value);
  }

  /** Appends a node; for ops, which have inferred `type` from the inputs. */
  add(op: string, inputs: readonly Value[], attributes: Attributes, type: TensorType): Value {
    const { shape, dtype } = type;
    const value: Value = {
      id: this.nodes.length,
      op,
      inputs,
      attributes,
      shape,
      dtype,
      graph: this,
      scope: this.scopeName,
    };
    this.nodes.push(value);
    return value;
  }
}

/** The graph of one operand, none for a state. Scripts in JavaScript may hand over anything. */
function graphsOf(op: string, operand: Operand | undefined, index: number): Graph[] {
  if (operand instanceof State) return [];
  if (operand?.graph instanceof Graph) return [operand.graph];
  throw new ShapeError(
    `${op}: operand ${index + 1} must be a value of a graph, a state, or a tensor { data, shape } outside of any graph; ` +
      `found ${operand === undefined ? "nothing" : typeof operand}`,
  );
}

/** The graph that a call's operands belong to; states alone belong to none. */
export function graphOf(op: string, operands: readonly Operand[]): Graph {
  const graphs = new Set(operands.flatMap((operand, index) => graphsOf(op, operand, index)));
  if (graphs.size > 1) throw new ShapeError(`${op}: the operands belong to different graphs`);
  for (const graph of graphs) return graph;
  throw new ShapeError(`${op}: at least one operand must be a value of a graph; read states with graph.read`);
}
