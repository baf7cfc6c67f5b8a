import { ShapeError } from "../errors.ts";
import { opOf } from "../ops/define.ts";
import type { Graph } from "../graph/graph.ts";
import { formatType, sameShape, type Value } from "../graph/value.ts";

const leaves = new Set(["input", "state", "constant", "copy"]);

const widened = (value: Value): Value => (value.dtype === "bf16" ? { ...value, dtype: "f32" } : value);

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
    // Ops speak of floats; what stores some as bf16 leaves all else as it was.
    const stored = node.op === "cast" ? (value: Value) => value : widened;
    const type = op.infer(node.inputs.map(stored), node.attributes);
    if (type.dtype !== stored(node).dtype || !sameShape(type.shape, node.shape))
      throw new ShapeError(`${where}: its op infers ${formatType(type)}, the graph says ${formatType(node)}`);
  }
}
