import { Graph } from "../graph/graph.ts";
import { type State } from "../graph/state.ts";
import { byteLength, type TensorType, type Value } from "../graph/value.ts";
import { opOf } from "../ops/define.ts";
import { type Device, openDevice } from "../runtime/device.ts";
import type { TensorSpec } from "../runtime/native.ts";
import { ask, describe, labelOf } from "./describe.ts";
import { type Interval, layOut } from "./memory.ts";
import { packWeights } from "./pack.ts";
import { Plan, type PlannedStep, type PlannedTensor } from "./plan.ts";
import { isLeaf, type Schedule, type ScheduledStep, schedule } from "./schedule.ts";
import { simplify } from "./simplify.ts";
import { stateMemory } from "./states.ts";
import { verify } from "./verify.ts";

export interface CompileOptions {
  readonly device?: Device;
  /** For tests: arena memory is NaN before it is written, and any write outside an op's result is an error. */
  readonly paranoid?: boolean;
}

/**
 * Traces a computation and makes it ready to run: simplified, scheduled, every buffer placed. What `trace`
 * returns by name is what each run returns.
 *
 * @throws {ShapeError} while tracing, when operands do not fit.
 * @throws {OutOfMemoryError} when states and arena exceed the device's free memory.
 */
export async function compile<Names extends string>(
  trace: (graph: Graph) => Readonly<Record<Names, Value>>,
  options: CompileOptions = {},
): Promise<Plan<Names>> {
  const device = options.device ?? openDevice();
  const plan = planOnly(trace, { ...options, device });
  await plan.load((state) => stateMemory(device, state));
  return plan;
}

/**
 * The plan that `compile` would make, without taking device memory: it prints itself and knows its peak memory
 * and operations, however large they are, and cannot be run.
 *
 * @throws {ShapeError} while tracing, when operands do not fit.
 */
export function planOnly<Names extends string>(
  trace: (graph: Graph) => Readonly<Record<Names, Value>>,
  options: CompileOptions = {},
): Plan<Names> {
  const traced = new Graph();
  const outputs = trace(traced);
  for (const [name, value] of Object.entries<Value>(outputs)) traced.output(name, value);
  const device = options.device ?? openDevice();
  const graph = simplify(packWeights(simplify(traced), device));
  verify(graph);
  const layout = planMemory(graph, schedule(graph), device, options.paranoid ?? false);
  return new Plan<Names>(graph, device, layout);
}

export interface PlanLayout {
  readonly steps: readonly PlannedStep[];
  readonly arena: readonly PlannedTensor[];
  readonly arenaBytes: number;
  readonly states: readonly State[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly prologue: number;
  readonly firstUpdate: number;
  readonly paranoid: boolean;
}

/** A tensor of the arena while it is being planned; in-place results share the one of their operand. */
interface Life {
  readonly label: string;
  readonly type: TensorType;
  first: number;
  last: number;
}

function planMemory(
  graph: Graph,
  { steps, prologue, firstUpdate }: Schedule,
  device: Device,
  paranoid: boolean,
): PlanLayout {
  const states = graph.states();
  const lives = liveness(graph, steps, prologue);
  const specs = steps.map(describe);
  const workspaces = specs.map((spec) => ask(spec, (step) => device.native.workspace(step)));

  const tensors = [...new Set(lives.values())];
  const intervals: Interval[] = tensors.map(({ type, first, last }) => ({
    bytes: byteLength(type),
    first,
    last,
  }));
  const scratch = workspaces.flatMap((bytes, index) =>
    bytes > 0 ? [{ bytes, first: index, last: index }] : [],
  );
  const layout = layOut([...intervals, ...scratch], paranoid ? 256 : 0);

  const offsets = new Map(tensors.map((life, index) => [life, layout.offsets[index]]));
  const updated = new Map(steps.flatMap(({ node, state, copy }) => (state && !copy ? [[node, state]] : [])));
  const place = (value: Value): TensorSpec => {
    const { dtype, shape } = value;
    const state = graph.stateOf(value) ?? updated.get(value);
    if (state !== undefined) return { dtype, shape, offset: 0, state: states.indexOf(state) };
    return { dtype, shape, offset: offsets.get(lives.get(value) as Life) as number };
  };
  let next = tensors.length;
  const planned = steps.map((step, index): PlannedStep => {
    const inputs = (step.copy ? [step.node] : step.node.inputs).map(place);
    const output = step.copy
      ? { ...place(step.node), offset: 0, state: states.indexOf(step.state as State) }
      : place(step.node);
    const workspaceBytes = workspaces[index];
    const workspaceOffset = workspaceBytes > 0 ? layout.offsets[next++] : 0;
    const spec = { ...specs[index], inputs, output, workspaceBytes, workspaceOffset };
    const algorithm = device.native.algorithm(specs[index]) || undefined;
    return { spec, flops: flopsOf(step), algorithm };
  });
  return {
    steps: planned,
    arena: tensors.map((life, index) => ({
      ...life,
      bytes: intervals[index].bytes,
      offset: layout.offsets[index],
    })),
    arenaBytes: layout.bytes,
    states,
    inputs: [...graph.inputs.values()].map(place),
    outputs: [...graph.outputs.values()].map(place),
    prologue,
    firstUpdate,
    paranoid,
  };
}

/** When each value that lies in the arena is first and last needed; what the prologue computes, from run to run. */
function liveness(graph: Graph, steps: readonly ScheduledStep[], prologue: number): Map<Value, Life> {
  const end = steps.length;
  const lastUse = new Map<Value, number>();
  for (const [index, step] of steps.entries())
    for (const input of step.copy ? [step.node] : step.node.inputs) lastUse.set(input, index);
  for (const value of graph.outputs.values()) lastUse.set(value, end);

  const lives = new Map<Value, Life>();
  for (const [name, value] of graph.inputs)
    lives.set(value, { label: `input ${name}`, type: value, first: -1, last: lastUse.get(value) ?? -1 });
  for (const [index, { node, state, copy }] of steps.entries()) {
    if (copy || state !== undefined) continue;
    const last = lastUse.get(node) ?? index;
    if (index < prologue) {
      lives.set(node, { label: labelOf(node), type: node, first: -1, last: end });
      continue;
    }
    const operand = node.inputs[opOf(node)?.inPlace ?? -1];
    const shared = operand === undefined ? undefined : lives.get(operand);
    if (
      shared !== undefined &&
      shared.last === index &&
      byteLength(shared.type) === byteLength(node) &&
      isOnlyUse(node, operand)
    ) {
      shared.last = last;
      lives.set(node, shared);
    } else {
      lives.set(node, { label: labelOf(node), type: node, first: index, last });
    }
  }
  return lives;
}

function isOnlyUse(node: Value, operand: Value): boolean {
  return node.inputs.filter((input) => input === operand).length === 1;
}

function flopsOf({ node, copy }: ScheduledStep): number {
  return copy || isLeaf(node) ? 0 : (opOf(node)?.flops(node.inputs, node, node.attributes) ?? 0);
}
