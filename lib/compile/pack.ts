import type { Graph } from "../graph/graph.ts";
import type { Attributes, Value } from "../graph/value.ts";
import { packedConv } from "../ops/conv_packed.ts";
import type { Device } from "../runtime/device.ts";
import { copyGraph, remake } from "./copy_graph.ts";
import { ask } from "./describe.ts";
import { lastingStates } from "./schedule.ts";

const convolutions = new Set(["conv3d", "conv3dInputGradient"]);

/**
 * Splits each convolution, and input gradient, into a step that packs its weights and one that computes with them. Weights
 * that several convolutions share are then packed once, and those that a plan does not train once for all its runs.
 */
export function packWeights(graph: Graph, device: Device): Graph {
  const lasts = lastingStates(graph);
  return copyGraph(graph, graph.nodes, (node, copyOf, to) => {
    const inputs = node.inputs.map(copyOf);
    if (!convolutions.has(node.op)) return remake(node, inputs, to);
    return to.scope(node.scope, () => packed(node, inputs, lasts(node.inputs[1]), device));
  });
}

/** The weights of a `conv3d` or `conv3dInputGradient` as a kernel reads them that is run often with the same. */
export const packedWeights = (node: Value, device: Device): Value =>
  packed(node, node.inputs, true, device).inputs[1];

function packed(node: Value, inputs: readonly Value[], once: boolean, device: Device): Value {
  const bare = ({ dtype, shape }: Value) => ({ dtype, shape, offset: 0 });
  const measure = (kernel: string, w: Value, attributes: Attributes) =>
    ask(
      {
        kernel,
        label: kernel,
        inputs: [bare(w)],
        output: { dtype: "f32", shape: [1], offset: 0 },
        attributes,
      },
      (step) => device.native.packedWeights(step),
    );
  return packedConv(node, inputs, once, measure);
}
