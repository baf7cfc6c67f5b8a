import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { rewrite } from "./rewrite.ts";

/** The same computation without what nothing needs and without computing anything twice. */
export function simplify(graph: Graph): Graph {
  const known = new Map<string, Value>();
  return rewrite(graph, (node, inputs, copy) => {
    const key = JSON.stringify([node.op, inputs.map((input) => input.id), node.attributes, node.shape]);
    const twin = known.get(key) ?? copy();
    known.set(key, twin);
    return twin;
  });
}
