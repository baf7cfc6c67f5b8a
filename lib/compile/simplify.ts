import { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";

/**
 * The same computation without what nothing needs and without computing anything twice. Plan inputs stay even
 * when unused, so that callers hand over what the graph declares.
 */
export function simplify(graph: Graph): Graph {
  const result = new Graph();
  const live = liveNodes(graph);
  const copies = new Map<Value, Value>();
  const known = new Map<string, Value>();
  for (const node of graph.nodes) {
    if (!live.has(node) && node.op !== "input") continue;
    copies.set(node, copyNode(node, graph, result, copies, known));
  }
  const copyOf = (value: Value) => copies.get(value) as Value;
  for (const [name, value] of graph.outputs) result.output(name, copyOf(value));
  for (const { state, value } of graph.assignments) result.assign(state, copyOf(value));
  return result;
}

function copyNode(
  node: Value,
  from: Graph,
  to: Graph,
  copies: ReadonlyMap<Value, Value>,
  known: Map<string, Value>,
): Value {
  if (node.op === "input") return to.input(String(node.attributes.name), node.shape, node.dtype);
  const state = from.stateOf(node);
  if (state !== undefined) return to.read(state);
  const inputs = node.inputs.map((input) => copies.get(input) as Value);
  const key = JSON.stringify([node.op, inputs.map((input) => input.id), node.attributes, node.shape]);
  let copy = known.get(key);
  if (copy === undefined) {
    copy = to.scope(node.scope, () => to.add(node.op, inputs, node.attributes, node));
    known.set(key, copy);
  }
  return copy;
}

function liveNodes(graph: Graph): Set<Value> {
  const live = new Set<Value>([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  for (let id = graph.nodes.length - 1; id >= 0; id--) {
    const node = graph.nodes[id];
    if (live.has(node)) for (const input of node.inputs) live.add(input);
  }
  return live;
}
