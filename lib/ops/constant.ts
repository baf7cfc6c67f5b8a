import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";

/** A float scalar known when the graph is traced. */
export function constant(graph: Graph, value: number): Value {
  return graph.add("constant", [], { value }, { dtype: "f32", shape: [] });
}
