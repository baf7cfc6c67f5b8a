import { State } from "../graph/state.ts";
import type { Value } from "../graph/value.ts";

/** A state that training changes by its gradient. Other states of a module are statistics. */
export class Parameter extends State {}

/** How a network is applied: what differs between training and prediction. */
export interface Mode {
  /** Batch statistics and dropout, rather than running statistics and none. Default false. */
  readonly training?: boolean;
  /** Whether training-mode dropout drops; default true. */
  readonly dropout?: boolean;
  /** Random key `i32[2]` of the step; needed by dropout in training. */
  readonly key?: Value;
  /**
   * Whether training-mode normalisation also updates its running statistics, and the share of the old ones that
   * stays: a number, or a scalar of the graph. `"keep"` leaves them alone. Default 0.9.
   */
  readonly statistics?: number | Value | "keep";
}

/**
 * A part of a network: it owns states and adds its computation to a graph. States and modules are found in the
 * object's own properties, arrays included, and named by the path to them.
 */
export abstract class Module {
  /** Name in printed plans and messages; set by `nameStates`. */
  path = "";

  /** Adds the module's computation to the graph of `x` and returns its result. */
  abstract forward(x: Value, mode: Mode): Value;

  /** `forward`, with the nodes it makes named after this module. */
  apply(x: Value, mode: Mode = {}): Value {
    return x.graph.scope(this.path, () => this.forward(x, mode));
  }

  /** All states by path, such as `encoder.0.conv.weight`, in the order of construction. */
  states(): Map<string, State> {
    const found = new Map<string, State>();
    for (const [path, part] of parts(this)) if (part instanceof State) found.set(path, part);
    return found;
  }

  parameters(): Parameter[] {
    return [...this.states().values()].filter((state) => state instanceof Parameter);
  }

  /** Number of trainable numbers. */
  get parameterCount(): number {
    return this.parameters().reduce((total, parameter) => total + parameter.size, 0);
  }
}

/** Names every module and state below `root` by its path behind `prefix`, for plans and messages. */
export function nameStates<M extends Module>(root: M, prefix: string): M {
  root.path = prefix;
  for (const [path, part] of parts(root)) {
    if (part instanceof State) part.name = `${prefix}.${path}`;
    else part.path = `${prefix}.${path}`;
  }
  return root;
}

function* parts(owner: object, prefix = ""): Generator<[string, State | Module]> {
  for (const [key, value] of Object.entries(owner) as [string, unknown][]) {
    const path = `${prefix}${key}`;
    if (value instanceof State) {
      yield [path, value];
    } else if (value instanceof Module) {
      yield [path, value];
      yield* parts(value, `${path}.`);
    } else if (Array.isArray(value)) {
      yield* parts(value, `${path}.`);
    }
  }
}
