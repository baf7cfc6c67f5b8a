import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { packedAspp } from "../ops/aspp_packed.ts";
import { type MeasurePacked, packedConv } from "../ops/conv_packed.ts";
import type { Device } from "../runtime/device.ts";
import { copyGraph, remake } from "./copy_graph.ts";
import { ask } from "./describe.ts";
import { lastingStates } from "./schedule.ts";

const packers: Readonly<Record<string, typeof packedConv>> = {
  conv3d: packedConv,
  conv3dInputGradient: packedConv,
  aspp: packedAspp,
  asppInputGradient: packedAspp,
};

/**
 * Splits each convolution, and input gradient, into steps that pack its weights and one that computes with them. Weights
 * that several convolutions share are then packed once, and those that a plan does not train once for all its runs.
 */
export function packWeights(graph: Graph, device: Device): Graph {
  const lasts = lastingStates(graph);
  return copyGraph(graph, graph.nodes, (node, copyOf, to) => {
    const inputs = node.inputs.map(copyOf);
    if (!(node.op in packers)) return remake(node, inputs, to);
    return to.scope(node.scope, () => packed(node, inputs, weightsOf(node).every(lasts), device));
  });
}

/** The weights of a convolution, or input gradient, as a kernel reads them that is run often with the same. */
export const packedWeights = (node: Value, device: Device): Value[] =>
  packed(node, node.inputs, true, device).inputs.filter(({ op }) => op === "conv3dPackWeights");

/** A convolution has one, before a bias. */
const weightsOf = ({ op, inputs }: Value) => (packers[op] === packedConv ? [inputs[1]] : inputs.slice(1));

function packed(node: Value, inputs: readonly Value[], once: boolean, device: Device): Value {
  const bare = ({ dtype, shape }: Value) => ({ dtype, shape, offset: 0 });
  const measure: MeasurePacked = (kernel, w, attributes) =>
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
  return packers[node.op](node, inputs, once, measure);
}
