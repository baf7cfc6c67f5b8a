import type { Graph } from "../graph/graph.ts";
import { opOf } from "../ops/define.ts";
import type { Device } from "../runtime/device.ts";
import { copyGraph, remake } from "./copy_graph.ts";

/** Writes the fused ops for which the device has no kernel in base ops, as their fallbacks say. */
export function lower(graph: Graph, device: Device): Graph {
  const kernels = new Set(device.native.kernels());
  return copyGraph(graph, graph.nodes, (node, copyOf, to) => {
    const inputs = node.inputs.map(copyOf);
    const fallback = kernels.has(node.op) ? undefined : opOf(node)?.fallback;
    return fallback === undefined
      ? remake(node, inputs, to)
      : to.scope(node.scope, () => fallback(inputs, node.attributes));
  });
}
