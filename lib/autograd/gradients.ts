import { ShapeError } from "../errors.ts";
import { formatType, type Value } from "../graph/value.ts";
import { add, fill } from "../ops/arithmetic.ts";
import { constant } from "../ops/constant.ts";
import { opOf } from "../ops/define.ts";

/**
 * The gradient of the scalar `loss` with respect to each of `targets`, as new nodes of the same graph: one
 * reverse sweep over the nodes between them. A target that the loss does not depend on gets zeros.
 */
export function gradients(loss: Value, targets: readonly Value[]): Value[] {
  if (loss.shape.length !== 0 || loss.dtype !== "f32")
    throw new ShapeError(`gradients: the loss must be a float scalar, found ${formatType(loss)}`);
  const { graph } = loss;
  const reaches = dependants(loss, targets);
  const one = constant(graph, 1);
  const sums = new Map<Value, Value>([[loss, one]]);
  for (let id = loss.id; id >= 0; id--) {
    const node = graph.nodes[id];
    const gradient = sums.get(node);
    const op = opOf(node);
    if (gradient === undefined || op === undefined || op.grad === "none" || !reaches.has(node)) continue;
    const { grad } = op;
    const parts = graph.scope(node.scope, () => grad(node.inputs, gradient, node, node.attributes));
    for (const [index, part] of parts.entries()) {
      const input = node.inputs[index];
      if (part === null || !reaches.has(input)) continue;
      const before = sums.get(input);
      sums.set(input, before === undefined ? part : add(before, part));
    }
  }
  return targets.map((target) => sums.get(target) ?? fill(constant(graph, 0), target.shape));
}

/** The nodes up to `loss` through which a gradient can reach one of `targets`. */
function dependants(loss: Value, targets: readonly Value[]): Set<Value> {
  const reaches = new Set<Value>(targets);
  for (const node of loss.graph.nodes.slice(0, loss.id + 1)) {
    const op = opOf(node);
    if (op !== undefined && op.grad !== "none" && node.inputs.some((input) => reaches.has(input)))
      reaches.add(node);
  }
  return reaches;
}
