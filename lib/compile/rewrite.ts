import { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";

/** Adds what stands for `node` to the new graph, given its inputs there; `copy` adds the same node again. */
export type Replace = (node: Value, inputs: readonly Value[], copy: () => Value) => Value;

/**
 * The same computation as a new graph, each node replaced by what `replace` makes of it, without what nothing needs.
 * Plan inputs stay even when unused, so that callers hand over what the graph declares.
 */
export function rewrite(graph: Graph, replace: Replace): Graph {
  const result = new Graph();
  const live = liveNodes(graph);
  const copies = new Map<Value, Value>();
  const copyOf = (value: Value) => copies.get(value) as Value;
  const translate = (node: Value): Value => {
    if (node.op === "input") return result.input(String(node.attributes.name), node.shape, node.dtype);
    const state = graph.stateOf(node);
    if (state !== undefined) return result.read(state);
    const inputs = node.inputs.map(copyOf);
    return result.scope(node.scope, () =>
      replace(node, inputs, () => result.add(node.op, inputs, node.attributes, node)),
    );
  };
  for (const node of graph.nodes)
    if (live.has(node) || node.op === "input") copies.set(node, translate(node));
  for (const [name, value] of graph.outputs) result.output(name, copyOf(value));
  for (const { state, value } of graph.assignments) result.assign(state, copyOf(value));
  return result;
}

function liveNodes(graph: Graph): Set<Value> {
  const live = new Set<Value>([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  for (let id = graph.nodes.length - 1; id >= 0; id--) {
    const node = graph.nodes[id];
    if (live.has(node)) for (const input of node.inputs) live.add(input);
  }
  return live;
}
