import { Graph } from "../graph/graph.ts";
import { type State } from "../graph/state.ts";
import { byteLength, type Value } from "../graph/value.ts";
import { opOf } from "../ops/define.ts";
import { type Device, openDevice, type Precision } from "../runtime/device.ts";
import type { StepSpec, TensorSpec } from "../runtime/native.ts";
import { ask, describe } from "./describe.ts";
import { fuse } from "./fuse.ts";
import { type Life, liveness } from "./liveness.ts";
import { joinAverages } from "./join_averages.ts";
import { joinHead } from "./join_head.ts";
import { joinLosses } from "./join_losses.ts";
import { keepPacked } from "./keep_packed.ts";
import { lower } from "./lower.ts";
import { type Interval, layOut } from "./memory.ts";
import { isNormalizedOnLoad, normalizeOnLoad } from "./on_load.ts";
import { orderForMemory } from "./order.ts";
import { packWeights } from "./pack.ts";
import { Plan, type PlannedStep, type PlannedTensor } from "./plan.ts";
import { checkPrecision, setPrecision } from "./precision.ts";
import { recompute } from "./recompute.ts";
import { isLeaf, operandsOf, type Schedule, type ScheduledStep, schedule } from "./schedule.ts";
import { simplify } from "./simplify.ts";
import { stateMemory } from "./states.ts";
import { sumInStore } from "./sum_in_store.ts";
import { betterSteps, measureWays, tuned, type Tuning, usualTuning } from "./tune.ts";
import { verify } from "./verify.ts";

export interface CompileOptions {
  readonly device?: Device;
  /** `f32` where it is not said; the CPU has no other. */
  readonly precision?: Precision;
  /** For tests: arena memory is NaN before it is written, and any write outside an op's result is an error. */
  readonly paranoid?: boolean;
  /** For tests: `false` leaves the ops as they were traced. */
  readonly fuse?: boolean;
  /** `never` keeps every activation until its last use; `auto` computes cheap ones again where the peak falls. */
  readonly recompute?: "auto" | "never";
  /**
   * Whether a GPU records the second run as a graph and replays it from then on; `VOXGRAD_RECORD=off` says no for all plans
   * that leave it out.
   */
  readonly record?: boolean;
  /**
   * `on` times the ways in which a GPU can compute each convolution and remembers the fastest, `cached` takes what is
   * remembered, `off` goes by a table. `VOXGRAD_TUNE` speaks for plans that leave it out; else it is `off`.
   */
  readonly tune?: Tuning;
}

/**
 * Traces a computation and makes it ready to run: simplified, scheduled, every buffer placed. What `trace`
 * returns by name is what each run returns.
 *
 * @throws {ShapeError} while tracing, when operands do not fit.
 * @throws {DeviceError} when the device has no kernels of that precision.
 * @throws {OutOfMemoryError} when states and arena exceed the device's free memory.
 */
export async function compile<Names extends string>(
  trace: (graph: Graph) => Readonly<Record<Names, Value>>,
  options: CompileOptions = {},
): Promise<Plan<Names>> {
  const device = options.device ?? openDevice();
  const simple = simplified(trace, device, options);
  let { graph, order, unknown } = scheduled(simple, device, options);
  if ((options.tune ?? usualTuning()) === "on") {
    await measureWays(unknown, device, 0);
    if (unknown.length > 0) ({ graph, order, unknown } = scheduled(simple, device, options));
    await measureWays(order.steps.map(describe), device);
  }
  const plan = planned<Names>(graph, order, device, options);
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
  const device = options.device ?? openDevice();
  const { graph, order } = scheduled(simplified(trace, device, options), device, options);
  return planned<Names>(graph, order, device, options);
}

/** What is to be computed, in ops that the device has. */
function simplified(
  trace: (graph: Graph) => Readonly<Record<string, Value>>,
  device: Device,
  options: CompileOptions,
): Graph {
  const traced = new Graph();
  const outputs = trace(traced);
  for (const [name, value] of Object.entries<Value>(outputs)) traced.output(name, value);
  const precision = checkPrecision(options.precision ?? "f32", device);
  const simple = simplify(packWeights(simplify(traced), device));
  const fused = lower(options.fuse === false ? simple : fuse(simple), device);
  return precision === "f32" ? fused : simplify(setPrecision(fused, precision));
}

/** The same with ops made one where the device gains by it, and the order of its steps. `unknown`: steps whose times would have told more. */
function scheduled(
  exact: Graph,
  device: Device,
  options: CompileOptions,
): { graph: Graph; order: Schedule; unknown: readonly StepSpec[] } {
  const unknown: StepSpec[] = [];
  const better = betterSteps(device, options.tune ?? usualTuning(), unknown, isNormalizedOnLoad);
  const joined = options.fuse === false ? exact : sumInStore(normalizeOnLoad(exact, device, better), device);
  const ordered = orderForMemory(joined);
  const graph = options.recompute === "never" ? ordered : recompute(ordered);
  verify(graph);
  return { graph, order: joinForDevice(graph, device), unknown };
}

/** The steps in order, those that the device makes by one kernel being one. */
function joinForDevice(graph: Graph, device: Device): Schedule {
  const order = joinAverages(keepPacked(schedule(graph), device), device);
  return joinHead(joinLosses(order, graph, device), graph, device);
}

function planned<Names extends string>(
  graph: Graph,
  order: Schedule,
  device: Device,
  options: CompileOptions,
): Plan<Names> {
  const layout = planMemory(graph, order, device, {
    paranoid: options.paranoid ?? false,
    record: options.record ?? process.env.VOXGRAD_RECORD !== "off",
    tune: options.tune ?? usualTuning(),
    precision: options.precision ?? "f32",
  });
  return new Plan<Names>(graph, device, layout);
}

/** How a plan is to be run. */
interface RunMode {
  readonly paranoid: boolean;
  readonly record: boolean;
  readonly tune: Tuning;
  readonly precision: Precision;
}

export interface PlanLayout extends RunMode {
  readonly steps: readonly PlannedStep[];
  readonly arena: readonly PlannedTensor[];
  readonly arenaBytes: number;
  readonly states: readonly State[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly prologue: number;
  readonly firstUpdate: number;
}

function planMemory(graph: Graph, order: Schedule, device: Device, mode: RunMode): PlanLayout {
  const { steps, prologue, firstUpdate } = order;
  const states = graph.states();
  const lives = liveness(graph, order);
  const specs = tuned(steps.map(describe), device, mode.tune);
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
  const layout = layOut([...intervals, ...scratch], mode.paranoid ? 256 : 0);

  const offsets = new Map(tensors.map((life, index) => [life, layout.offsets[index]]));
  const writers = steps.flatMap(
    (step) =>
      step.averages ?? step.updates?.flatMap(({ velocity, parameter }) => [velocity, parameter]) ?? [step],
  );
  const updated = new Map(
    writers.flatMap(({ node, state, copy }) => (state && !copy ? [[node, state]] : [])),
  );
  const place = (value: Value): TensorSpec => {
    const { dtype, shape } = value;
    const state = graph.stateOf(value) ?? updated.get(value);
    if (state !== undefined) return { dtype, shape, offset: 0, state: states.indexOf(state) };
    return { dtype, shape, offset: offsets.get(lives.get(value) as Life) as number };
  };
  let next = tensors.length;
  const planned = steps.map((step, index): PlannedStep => {
    const inputs = operandsOf(step).map(place);
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
    ...mode,
  };
}

function flopsOf({ node, copy, joined, updates, averages }: ScheduledStep): number {
  if (averages !== undefined) return averages.reduce((all, each) => all + flopsOf(each), 0);
  if (updates !== undefined)
    return updates.reduce((all, { velocity, parameter }) => all + flopsOf(velocity) + flopsOf(parameter), 0);
  const of = (value: Value) => opOf(value)?.flops(value.inputs, value, value.attributes) ?? 0;
  const own = copy || isLeaf(node) ? 0 : of(node);
  return [...(joined?.values ?? []), ...(joined?.within ?? [])].reduce((all, value) => all + of(value), own);
}
