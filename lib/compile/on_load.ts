import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
// Defines the ops that are put in here by name.
import "../ops/conv_normalized.ts";
import type { Device } from "../runtime/device.ts";
import { copyGraph, remake, usersOf } from "./copy_graph.ts";
import { ask, describe } from "./describe.ts";

const normalized: Readonly<Record<string, string>> = {
  conv3dPacked: "normalizeReluConv3dPacked",
  conv3dWeightGradient: "normalizeReluConv3dWeightGradient",
};

/**
 * Lets convolutions normalise what they read as they load it, where their kernels can: they then read the result of the
 * convolution before, which the gradient of the normalisation needs anyway, and its normalised form is never written.
 * Where the forward pass needs that form nevertheless, for a skip say, only weight gradients go without it: it need not
 * live, or be computed again, for them.
 */
export function normalizeOnLoad(graph: Graph, device: Device): Graph {
  const users = usersOf(graph);
  const kept = new Set([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  const fused = new Set<Value>();
  const relieved = new Set<Value>();
  for (const node of graph.nodes) {
    if (node.op !== "normalizeRelu" || node.inputs[1].shape[0] !== 1) continue;
    const readers = users.get(node) as Value[];
    const able = readers.filter((reader) => readsOnLoad(reader, node, device));
    const needed =
      kept.has(node) || readers.some((reader) => !able.includes(reader) && !isWeightGradient(reader));
    for (const reader of able)
      if (!needed || isWeightGradient(reader)) {
        fused.add(reader);
        relieved.add(node);
      }
  }
  const inputsOf = (node: Value) => {
    if (!fused.has(node)) return node.inputs;
    const [source, ...others] = node.inputs;
    return [...source.inputs, ...others];
  };
  return copyGraph(graph, orderOf(graph, relieved, kept, inputsOf), (node, copyOf, to) => {
    const attributes = fused.has(node)
      ? { ...node.attributes, ...node.inputs[0].attributes }
      : node.attributes;
    const op = fused.has(node) ? normalized[node.op] : node.op;
    return remake(node, inputsOf(node).map(copyOf), to, { op, attributes });
  });
}

const isWeightGradient = (node: Value) => node.op === "conv3dWeightGradient";

function readsOnLoad(reader: Value, source: Value, device: Device): boolean {
  if (!(reader.op in normalized) || reader.inputs.indexOf(source) !== 0) return false;
  if (reader.inputs.lastIndexOf(source) !== 0) return false;
  return ask(describe({ node: reader, copy: false }), (step) => device.native.normalizes(step));
}

/** As before, but the nodes of `late` come just before their first reader, and not at all where nothing reads them. */
function orderOf(
  graph: Graph,
  late: ReadonlySet<Value>,
  kept: ReadonlySet<Value>,
  inputsOf: (node: Value) => readonly Value[],
): Value[] {
  const order = new Set<Value>();
  const put = (node: Value) => {
    for (const input of inputsOf(node)) if (late.has(input)) put(input);
    order.add(node);
  };
  for (const node of graph.nodes) if (!late.has(node) || kept.has(node)) put(node);
  return [...order];
}
