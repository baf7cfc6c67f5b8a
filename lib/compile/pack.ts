import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { packedConv } from "../ops/conv_packed.ts";
import type { Device } from "../runtime/device.ts";
import { ask, describe } from "./describe.ts";
import { rewrite } from "./rewrite.ts";

const convolutions = new Set(["conv3d", "conv3dInputGradient"]);

/**
 * Splits each convolution, and input gradient, into a step that packs its weights and one that computes with them. Weights
 * that several convolutions share are then packed once, and those that a plan does not train once for all its runs.
 */
export function packWeights(graph: Graph, device: Device): Graph {
  return rewrite(graph, (node, inputs, copy) =>
    convolutions.has(node.op) ? packed(node, inputs, device) : copy(),
  );
}

/** The weights of a `conv3d` or `conv3dInputGradient` as its kernel will read them. */
export const packedWeights = (node: Value, device: Device): Value =>
  packed(node, node.inputs, device).inputs[1];

function packed(node: Value, inputs: readonly Value[], device: Device): Value {
  const floats = ask(describe({ node, copy: false }), (step) => device.native.packedWeights(step));
  return packedConv(node, inputs, floats);
}
