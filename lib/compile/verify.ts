import { ShapeError } from "../errors.ts";
import { opOf } from "../ops/define.ts";
import type { Graph } from "../graph/graph.ts";
import { formatType, sameShape } from "../graph/value.ts";

const leaves = new Set(["input", "state", "constant", "copy"]);

/** Throws unless every node stands behind its inputs and has the type that its op infers from them. */
export function verify(graph: Graph): void {
  for (const [index, node] of graph.nodes.entries()) {
    const where = `node ${index} (${node.op})`;
    if (node.graph !== graph || node.id !== index) throw new ShapeError(`${where} belongs to another graph`);
    for (const input of node.inputs)
      if (input.graph !== graph || input.id >= node.id)
        throw new ShapeError(`${where} stands before its input`);
    const op = opOf(node);
    if (op === undefined) {
      if (!leaves.has(node.op)) throw new ShapeError(`${where}: no such op`);
      continue;
    }
    const type = op.infer(node.inputs, node.attributes);
    if (type.dtype !== node.dtype || !sameShape(type.shape, node.shape))
      throw new ShapeError(`${where}: its op infers ${formatType(type)}, the graph says ${formatType(node)}`);
  }
}
