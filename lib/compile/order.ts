import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { copyGraph, remake, usersOf } from "./copy_graph.ts";
import { isLeaf, updateNodes } from "./schedule.ts";

/**
 * The same nodes, but what only updates read, the gradients of weights, comes as soon as its operands exist. It is
 * small and lives on in any case, while its operands are activations that can then go: without this the gradient of
 * a convolution's input would lie beside both.
 */
export function orderForMemory(graph: Graph): Graph {
  const updates = updateNodes(graph);
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs.values());
  const early = new Set(
    graph.nodes.filter((node) => {
      const own = users.get(node) as Value[];
      const small = own.length > 0 && own.every((user) => updates.has(user));
      return small && !isLeaf(node) && !updates.has(node) && !outputs.has(node);
    }),
  );
  const order: Value[] = [];
  const done = new Set(graph.nodes.filter(isLeaf));
  const put = (node: Value) => {
    order.push(node);
    done.add(node);
    for (const user of users.get(node) as Value[])
      if (early.has(user) && !done.has(user) && user.inputs.every((input) => done.has(input))) put(user);
  };
  for (const node of graph.nodes) if (!done.has(node)) put(node);
  return copyGraph(graph, order, (node, copyOf, to) => remake(node, node.inputs.map(copyOf), to));
}
