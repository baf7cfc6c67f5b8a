import { UsageError } from "../errors.ts";
import type { State } from "../graph/state.ts";
import { elements, type Value } from "../graph/value.ts";
import type { OnnxAttribute, OnnxNode, OnnxTensor } from "./onnx_model.ts";
import type { TwoTraces } from "./onnx_trace.ts";

/** Collects the nodes and tensors of a model while ops write themselves into it. */
export class OnnxBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly tensors: OnnxTensor[] = [];
  readonly traces: TwoTraces;
  /** Whether the model is 2-D: `[N, C, H, W]` instead of `[N, C, D, H, W]`. */
  readonly flat: boolean;
  readonly opset: number;
  private readonly contents: ReadonlyMap<State, Float32Array>;
  private readonly names = new Map<Value, string>();
  private readonly taken = new Set<string>();

  constructor(
    traces: TwoTraces,
    model: { readonly flat: boolean; readonly opset: number },
    contents: ReadonlyMap<State, Float32Array>,
  ) {
    this.traces = traces;
    this.flat = model.flat;
    this.opset = model.opset;
    this.contents = contents;
  }

  /** The ONNX tensor that holds a value. */
  of(value: Value): string {
    const name = this.names.get(value);
    if (name !== undefined) return name;
    throw new UsageError(
      `ONNX export: state ${stateName(value)} is an operand of an op that has none in ONNX export: only weights are stored`,
    );
  }

  /** Says which tensor holds a value. */
  name(value: Value, name: string): void {
    this.names.set(value, name);
    this.taken.add(name);
  }

  /** Adds a node and returns the tensor that it makes, which `value` names. */
  node(
    value: Value,
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, OnnxAttribute>> = {},
  ): string {
    const output = this.unused(`${value.scope || "network"}/${op}`);
    this.nodes.push({ name: output, op, inputs, output, attributes });
    return output;
  }

  tensor(name: string, shape: readonly number[], data: Float32Array | BigInt64Array): string {
    const own = this.unused(name);
    this.tensors.push({ name: own, shape, data });
    return own;
  }

  scalar(value: Value, name: string, number: number): string {
    return this.tensor(`${value.scope || "network"}/${name}`, [], Float32Array.of(number));
  }

  integers(value: Value, name: string, list: readonly number[]): string {
    const data = BigInt64Array.from(list, BigInt);
    return this.tensor(`${value.scope || "network"}/${name}`, [list.length], data);
  }

  /** The contents of a state that `user` reads; throws UsageError when it reads something computed. */
  contentsOf(value: Value, user: Value): Float32Array {
    const state = value.graph.stateOf(value);
    const data = state && this.contents.get(state);
    if (data === undefined) throw refusal(user, `its weights come from ${value.op}, not from a stored state`);
    return data;
  }

  /** A state of one axis as it is. */
  vector(value: Value, user: Value): string {
    return this.tensor(stateName(value), value.shape, this.contentsOf(value, user));
  }

  /** Convolution weights `[first, kD, kH, kW, last]` as `[first, last, kD, kH, kW]`, without kD in a 2-D model. */
  kernel(value: Value, user: Value): string {
    const [first, depth, height, width, last] = value.shape;
    const data = channelsFirst(this.contentsOf(value, user), value.shape);
    const taps = this.spatial([depth, height, width]);
    return this.tensor(stateName(value), [first, last, ...taps], data);
  }

  /** What of `[D, H, W]` the model has. */
  spatial(list: readonly number[]): readonly number[] {
    return this.flat ? list.slice(1) : list;
  }

  /** An axis of `[N, D, H, W, C]` in the model. */
  axis(axis: number): number {
    if (axis === 0) return 0;
    if (axis === 4) return 1;
    return this.flat ? axis : axis + 1;
  }

  private unused(name: string): string {
    let own = name;
    for (let n = 2; this.taken.has(own); n++) own = `${name}_${n}`;
    this.taken.add(own);
    return own;
  }
}

function stateName(value: Value): string {
  return value.graph.stateOf(value)?.name ?? value.op;
}

function channelsFirst(data: Float32Array, [first, ...rest]: readonly number[]): Float32Array {
  const channels = rest[rest.length - 1];
  const taps = elements(rest) / channels;
  const result = new Float32Array(data.length);
  let from = 0;
  for (let outer = 0; outer < first; outer++)
    for (let tap = 0; tap < taps; tap++)
      for (let channel = 0; channel < channels; channel++)
        result[(outer * channels + channel) * taps + tap] = data[from++];
  return result;
}

function where({ op, scope }: Value): string {
  return `op ${op}${scope === "" ? "" : ` of ${scope}`}`;
}

/** The error of an op that cannot be exported as it is used. */
export function refusal(value: Value, why: string): UsageError {
  return new UsageError(`ONNX export: ${where(value)} cannot be exported: ${why}`);
}
