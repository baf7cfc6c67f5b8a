import type { Graph } from "../graph/graph.ts";
import type { Device } from "../runtime/device.ts";
import { copyGraph, remake, usersOf } from "./copy_graph.ts";
import { ask, describe } from "./describe.ts";
import { areBatchMoments } from "./schedule.ts";

const convolutions = new Set(["conv3dPacked", "normalizeReluConv3dPacked"]);

/**
 * Marks the convolutions, with the attribute `moments`, whose kernels sum the moments of their results as they store
 * them: the scheduler makes one kernel call of both, and the result is not read once more for its moments.
 */
export function sumInStore(graph: Graph, device: Device): Graph {
  const users = usersOf(graph);
  return copyGraph(graph, graph.nodes, (node, copyOf, to) => {
    const sums =
      convolutions.has(node.op) &&
      users.get(node)?.some((user) => areBatchMoments(user, node)) === true &&
      ask(describe({ node, copy: false }), (step) => device.native.sums(step));
    const attributes = sums ? { ...node.attributes, moments: true } : node.attributes;
    return remake(node, node.inputs.map(copyOf), to, { op: node.op, attributes });
  });
}
