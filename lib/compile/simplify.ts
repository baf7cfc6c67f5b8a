import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { copyGraph, remake } from "./copy_graph.ts";

/** The same computation without what nothing needs and without computing anything twice. */
export function simplify(graph: Graph): Graph {
  const live = liveNodes(graph);
  const known = new Map<string, Value>();
  const order = graph.nodes.filter((node) => live.has(node));
  return copyGraph(graph, order, (node, copyOf, to) => {
    const inputs = node.inputs.map(copyOf);
    const key = JSON.stringify([node.op, inputs.map((input) => input.id), node.attributes, node.shape]);
    const twin = known.get(key) ?? remake(node, inputs, to);
    known.set(key, twin);
    return twin;
  });
}

function liveNodes(graph: Graph): Set<Value> {
  const live = new Set<Value>([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  for (let id = graph.nodes.length - 1; id >= 0; id--) {
    const node = graph.nodes[id];
    if (live.has(node)) for (const input of node.inputs) live.add(input);
  }
  return live;
}
