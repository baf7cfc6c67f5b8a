import { Graph } from "../graph/graph.ts";
import type { Attributes, Value } from "../graph/value.ts";

/** Makes the node that stands in the new graph for one of the old. */
export type MakeNode = (node: Value, copyOf: (value: Value) => Value, to: Graph) => Value;

/** `node` with other inputs, of the new graph, and perhaps another op: its type and scope stay. */
export function remake(
  node: Value,
  inputs: readonly Value[],
  to: Graph,
  { op, attributes }: { op: string; attributes: Attributes } = node,
): Value {
  return to.scope(node.scope, () => to.add(op, inputs, attributes, node));
}

/**
 * A new graph of the nodes in `order`, each behind what `make` takes the copies of, with the outputs and assignments
 * of the old one. Inputs and states need not be in `order`.
 */
export function copyGraph(graph: Graph, order: readonly Value[], make: MakeNode): Graph {
  const result = new Graph();
  const copies = new Map<Value, Value>();
  for (const [name, value] of graph.inputs) copies.set(value, result.input(name, value.shape, value.dtype));
  const copyOf = (value: Value): Value => {
    const state = graph.stateOf(value);
    return state === undefined ? (copies.get(value) as Value) : result.read(state);
  };
  for (const node of order)
    if (node.op !== "input" && node.op !== "state") copies.set(node, make(node, copyOf, result));
  for (const [name, value] of graph.outputs) result.output(name, copyOf(value));
  for (const { state, value } of graph.assignments) result.assign(state, copyOf(value));
  return result;
}

/** Who reads each value, in the order of the nodes; a node that reads it twice stands twice. */
export function usersOf(graph: Graph): Map<Value, Value[]> {
  const users = new Map<Value, Value[]>(graph.nodes.map((node) => [node, []]));
  for (const node of graph.nodes) for (const input of node.inputs) users.get(input)?.push(node);
  return users;
}
