import type { Assignment, Graph } from "../graph/graph.ts";
import type { State } from "../graph/state.ts";
import type { Attributes, Value } from "../graph/value.ts";
import { opOf } from "../ops/define.ts";
import { usersOf } from "./copy_graph.ts";

/** The two updates of one parameter. */
export interface Update {
  readonly velocity: ScheduledStep;
  readonly parameter: ScheduledStep;
}

/** Values that one kernel makes together with another one. */
export interface Joined {
  readonly kernel: string;
  readonly values: readonly Value[];
  /** What the kernel computes on the way and keeps to itself. */
  readonly within?: readonly Value[];
  /** What the kernel reads, where that is not what its result is computed from one by one. */
  readonly operands?: readonly Value[];
  /** Beside those of its result. */
  readonly attributes?: Attributes;
}

/** One kernel call in order: what it computes, and the state it writes when it is an update. */
export interface ScheduledStep {
  readonly node: Value;
  /** Written instead of arena memory: in place, or by a copy of `node`. */
  readonly state?: State;
  readonly copy: boolean;
  /** What the kernel of that name makes besides: `node` is its result. */
  readonly joined?: Joined;
  /** The updates that one kernel makes of many parameters and their velocities; `node` is the first parameter's. */
  readonly updates?: readonly Update[];
  /** Packed weights that those updates write as well. */
  readonly packed?: readonly Value[];
  /** The moving averages of one decay that one kernel updates; `node` is the first one's. */
  readonly averages?: readonly ScheduledStep[];
}

export interface Schedule {
  readonly steps: ScheduledStep[];
  /**
   * Steps before this index depend on states alone and are worth keeping: this plan does not write those states, or
   * its updates write these results as well.
   */
  readonly prologue: number;
  /** Steps from this index on write states; nothing before does. */
  readonly firstUpdate: number;
}

/** Nodes that no kernel computes. */
export function isLeaf(node: Value): boolean {
  return node.op === "input" || node.op === "state";
}

/** What a step reads, and what it writes besides its result, in the order in which its kernel takes it. */
export function operandsOf(step: ScheduledStep): readonly Value[] {
  const { node, copy, joined, updates, packed = [], averages } = step;
  if (joined !== undefined) return [...joined.values, ...(joined.operands ?? node.inputs)];
  if (averages !== undefined)
    return [...[0, 1].flatMap((k) => averages.map((each) => each.node.inputs[k])), ...node.inputs.slice(2)];
  if (updates !== undefined)
    return [
      ...updates.flatMap(({ parameter, velocity }) => [parameter.node.inputs[0], velocity.node.inputs[0]]),
      ...packed,
      ...updates.map(gradientOf),
      node.inputs[2],
    ];
  return copy ? [node] : node.inputs;
}

/**
 * Puts the nodes in an order in which every state is written only after the last read of its old contents:
 * first what lasts for many runs, then all else that computes, as traced, then the updates. An update whose op may work in
 * place writes the state itself; any other is computed in the arena and copied at the very end.
 */
export function schedule(graph: Graph): Schedule {
  const tail = updateNodes(graph);
  const kept = keptNodes(graph);
  const users = usersOf(graph);
  const joined = new Map([...momentsOfConvolutions(graph, users), ...weightGradientsOfAspp(graph, tail)]);
  const within = new Set([...joined.values()].flatMap(({ values }) => values));
  const computed = graph.nodes.filter((node) => !isLeaf(node) && !kept.has(node) && !within.has(node));
  const order = [
    ...kept,
    ...computed.filter((node) => !tail.has(node)),
    ...computed.filter((node) => tail.has(node)),
  ];
  const position = new Map(order.map((node, index) => [node, index]));
  const inPlace = new Map<Value, State>();
  const copies: Assignment[] = [];
  for (const assignment of graph.assignments) {
    const free = tail.has(assignment.value) && !inPlace.has(assignment.value);
    const fits = free && canWriteInPlace(graph, assignment, position, users);
    if (fits) inPlace.set(assignment.value, assignment.state);
    else copies.push(assignment);
  }
  return {
    steps: [
      ...joinUpdates(
        order.map((node) => ({ node, state: inPlace.get(node), copy: false, joined: joined.get(node) })),
      ),
      ...copies.map(({ value, state }) => ({ node: value, state, copy: true })),
    ],
    prologue: kept.size,
    firstUpdate: order.length - order.filter((node) => tail.has(node)).length,
  };
}

/** Tells which nodes are states that the graph reads and never writes. */
export function lastingStates(graph: Graph): (node: Value) => boolean {
  const written = new Set(graph.assignments.map(({ state }) => state));
  return (node) => {
    const state = graph.stateOf(node);
    return state !== undefined && !written.has(state);
  };
}

/** Results that are worth keeping and that no update of this plan, and no input, can change. */
function keptNodes(graph: Graph): Set<Value> {
  const lasts = lastingStates(graph);
  return new Set(graph.nodes.filter((node) => opOf(node)?.keep === true && node.inputs.every(lasts)));
}

/** The moments that a convolution's kernel makes: of each channel over the whole batch. */
export const areBatchMoments = (node: Value, of: Value): boolean =>
  node.op === "moments" && node.inputs[0] === of && node.shape[0] === 1 && node.shape[1] === of.shape[4];

/** By the convolutions that sumInStore has marked. */
function momentsOfConvolutions(
  graph: Graph,
  users: ReadonlyMap<Value, readonly Value[]>,
): Map<Value, Joined> {
  const found = new Map<Value, Joined>();
  for (const node of graph.nodes) {
    if (node.attributes.moments !== true) continue;
    const own = users.get(node)?.find((user) => areBatchMoments(user, node));
    if (own !== undefined) found.set(node, { kernel: `${node.op}Moments`, values: [own] });
  }
  return found;
}

/**
 * By the weight gradient of the first branch, those of all others of the same `aspp`, where they stand side by side: one
 * kernel makes them all.
 */
function weightGradientsOfAspp(graph: Graph, tail: ReadonlySet<Value>): Map<Value, Joined> {
  const found = new Map<Value, Joined>();
  for (const [index, node] of graph.nodes.entries()) {
    if (node.op !== "asppWeightGradient" || node.attributes.branch !== 0) continue;
    const { dilations } = node.attributes as { dilations: readonly number[] };
    const others = graph.nodes.slice(index + 1, index + dilations.length / 3);
    const belongs = ({ op, inputs, attributes }: Value, at: number) =>
      op === node.op &&
      inputs.every((input, i) => input === node.inputs[i]) &&
      attributes.branch === at + 1 &&
      tail.has(others[at]) === tail.has(node) &&
      String(attributes.dilations) === String(dilations);
    if (others.length === dilations.length / 3 - 1 && others.length > 0 && others.every(belongs))
      found.set(node, { kernel: "asppWeightGradients", values: others });
  }
  return found;
}

const gradientOf = ({ velocity }: Update): Value => velocity.node.inputs[1];

/**
 * Joins each `sgdStep` with the `sgdVelocity` right before it where both write their states in place, and all such pairs
 * of the same rate and settings: one kernel passes over all parameters.
 */
function joinUpdates(steps: readonly ScheduledStep[]): ScheduledStep[] {
  const joined: ScheduledStep[] = [];
  for (const step of steps) {
    const before = joined.at(-1);
    if (before === undefined || !areOneUpdate(before, step)) {
      joined.push(step);
      continue;
    }
    joined.pop();
    const update: Update = { velocity: before, parameter: step };
    const index = joined.findIndex((other, at) => canJoin(other, update, joined.slice(at + 1)));
    const group = index < 0 ? undefined : joined[index];
    if (group === undefined) joined.push({ ...step, updates: [update] });
    else joined[index] = { ...group, updates: [...(group.updates as Update[]), update] };
  }
  return joined;
}

/** Whether `update` can be made as early as by `group`, behind which come the steps `between`. */
function canJoin(group: ScheduledStep, update: Update, between: readonly ScheduledStep[]): boolean {
  const { velocity, parameter } = update;
  if (group.updates === undefined || group.node.inputs[2] !== parameter.node.inputs[2]) return false;
  const [own, other] = [group.node.attributes, parameter.node.attributes];
  if ((["momentum", "weightDecay", "nesterov"] as const).some((name) => own[name] !== other[name]))
    return false;
  const written = [parameter.node.inputs[0], velocity.node.inputs[0]];
  return between.every(
    (step) => step.node !== gradientOf(update) && !operandsOf(step).some((value) => written.includes(value)),
  );
}

function areOneUpdate(first: ScheduledStep, second: ScheduledStep): boolean {
  if (first.node.op !== "sgdVelocity" || second.node.op !== "sgdStep") return false;
  const [, gradient, parameter] = first.node.inputs;
  const [own, velocity, , ownGradient = gradient] = second.node.inputs;
  return (
    first.state !== undefined &&
    second.state !== undefined &&
    own === parameter &&
    velocity === first.node &&
    ownGradient === gradient &&
    first.node.attributes.momentum === second.node.attributes.momentum &&
    first.node.attributes.weightDecay === second.node.attributes.weightDecay
  );
}

/** Assigned values that would write a state in place, and whatever is computed from them. */
export function updateNodes(graph: Graph): Set<Value> {
  const outputs = new Set(graph.outputs.values());
  const tail = new Set<Value>();
  for (const { value } of graph.assignments)
    if (opOf(value)?.inPlace !== undefined && !outputs.has(value)) tail.add(value);
  for (const node of graph.nodes) if (node.inputs.some((input) => tail.has(input))) tail.add(node);
  for (const value of outputs) removeWithInputs(value, tail);
  return tail;
}

/** Outputs are wanted before updates begin, so whatever they need is not an update. */
function removeWithInputs(value: Value, tail: Set<Value>): void {
  if (!tail.delete(value)) return;
  for (const input of value.inputs) removeWithInputs(input, tail);
}

function canWriteInPlace(
  graph: Graph,
  { state, value }: Assignment,
  position: ReadonlyMap<Value, number>,
  users: ReadonlyMap<Value, readonly Value[]>,
): boolean {
  const index = opOf(value)?.inPlace;
  if (index === undefined || graph.stateOf(value.inputs[index]) !== state) return false;
  if ([...graph.outputs.values()].includes(value)) return false;
  const read = value.inputs[index];
  const here = position.get(value) as number;
  const readers = users.get(read) as readonly Value[];
  const others = readers.filter((node) => node !== value);
  const readTwice = readers.length - others.length > 1;
  const readByOutput = [...graph.outputs.values()].includes(read);
  return !readTwice && !readByOutput && others.every((node) => (position.get(node) as number) < here);
}
