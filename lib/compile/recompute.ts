import type { Graph } from "../graph/graph.ts";
import { byteLength, type Value } from "../graph/value.ts";
import { opOf } from "../ops/define.ts";
import { copyGraph, remake } from "./copy_graph.ts";
import { liveness } from "./liveness.ts";
import { isLeaf, operandsOf, schedule } from "./schedule.ts";

/** Rounds without a lower peak before the search ends: two peaks of one height need a round each. */
const patience = 4;

/**
 * The same computation in less memory: a cheap result that lies idle while memory is fullest is given up and computed
 * again before its next use (Chen et al., "Training deep nets with sublinear memory cost", 2016), for as long as
 * that lowers the peak. The activations of a network are such results: the forward pass is done with them, and the
 * backward pass needs what they are computed from anyway.
 */
export function recompute(graph: Graph): Graph {
  let best = graph;
  let lowest = profileOf(graph);
  let [current, profile] = [best, lowest];
  for (let wait = 0; wait < patience; wait++) {
    const next = giveUp(current, profile);
    if (next === undefined) break;
    [current, profile] = [next, profileOf(next)];
    if (profile.bytes >= lowest.bytes) continue;
    [best, lowest] = [current, profile];
    wait = -1;
  }
  return best;
}

/** Where memory is fullest, and when each value is made and read, in steps. */
interface Profile {
  readonly bytes: number;
  readonly peak: number;
  readonly made: ReadonlyMap<Value, number>;
  readonly reads: ReadonlyMap<Value, readonly number[]>;
}

function profileOf(graph: Graph): Profile {
  const order = schedule(graph);
  const { steps } = order;
  const changes = new Array<number>(steps.length + 2).fill(0);
  for (const { type, first, last } of new Set(liveness(graph, order).values())) {
    changes[Math.max(first, 0)] += byteLength(type);
    changes[Math.min(last, steps.length) + 1] -= byteLength(type);
  }
  let [bytes, peak, now] = [0, 0, 0];
  for (let step = 0; step < steps.length; step++) {
    now += changes[step];
    if (now > bytes) [bytes, peak] = [now, step];
  }
  const made = new Map<Value, number>();
  const reads = new Map<Value, number[]>(graph.nodes.map((node) => [node, []]));
  for (const [index, step] of steps.entries()) {
    if (!step.copy) made.set(step.node, index);
    for (const value of step.joined?.values ?? []) made.set(value, index);
    for (const { velocity, parameter } of step.updates ?? [])
      for (const { node } of [velocity, parameter]) made.set(node, index);
    for (const input of operandsOf(step)) reads.get(input)?.push(index);
  }
  for (const value of graph.outputs.values()) reads.get(value)?.push(steps.length);
  return { bytes, peak, made, reads };
}

/** The graph with every cheap result that lies idle at the peak made anew behind it; nothing when there is none. */
function giveUp(graph: Graph, { peak, made, reads }: Profile): Graph | undefined {
  const idle = new Set<Value>();
  // Not there behind the peak, but soon made: what an idle result is made from may be.
  const gone = new Set<Value>();
  const lastRead = (value: Value) => reads.get(value)?.at(-1) ?? -1;
  const outputs = new Set(graph.outputs.values());
  for (const node of graph.nodes) {
    const available = (input: Value) =>
      isLeaf(input) ||
      idle.has(input) ||
      gone.has(input) ||
      lastRead(input) > peak ||
      byteLength(input) * 64 < byteLength(node);
    const isCheap = opOf(node)?.cheap === true && (made.get(node) as number) < peak && !outputs.has(node);
    if (!isCheap || !node.inputs.every(available)) continue;
    if (lastRead(node) < peak) gone.add(node);
    else if (lastRead(node) > peak && reads.get(node)?.includes(peak) === false) idle.add(node);
  }
  if (idle.size === 0) return undefined;
  const again = new Map<Value, Value>();
  return copyGraph(graph, graph.nodes, (node, copyOf, to) => {
    const makeAgain = (value: Value): Value => {
      if (!idle.has(value) && !gone.has(value)) return copyOf(value);
      let copy = again.get(value);
      if (copy === undefined) {
        copy = remake(value, value.inputs.map(makeAgain), to);
        again.set(value, copy);
      }
      return copy;
    };
    const behind = (made.get(node) as number) > peak;
    return remake(node, node.inputs.map(behind ? makeAgain : copyOf), to);
  });
}
