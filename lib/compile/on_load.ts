import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
// Defines the ops that are put in here by name.
import "../ops/conv_normalized.ts";
import type { Device } from "../runtime/device.ts";
import type { StepSpec } from "../runtime/native.ts";
import { copyGraph, remake, usersOf } from "./copy_graph.ts";
import { ask, describe } from "./describe.ts";
import { areBatchMoments } from "./schedule.ts";
import { type Better, waysOf } from "./tune.ts";

const normalized: Readonly<Record<string, string>> = {
  conv3dPacked: "normalizeReluConv3dPacked",
  conv3dWeightGradient: "normalizeReluConv3dWeightGradient",
};

/**
 * Lets convolutions normalise what they read as they load it, where their kernels can: they then read the result of the
 * convolution before, which the gradient of the normalisation needs anyway, and its normalised form is never written.
 * Where the forward pass needs that form nevertheless, for a skip say, only weight gradients go without it: it need not
 * live, or be computed again, for them. A kernel that usually cannot may have a way that does: `better`, which tuning brings, says
 * whether it is then to be taken.
 */
export function normalizeOnLoad(graph: Graph, device: Device, better?: Better): Graph {
  const users = usersOf(graph);
  const kept = new Set([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  const fused = new Set<Value>();
  const relieved = new Set<Value>();
  for (const node of graph.nodes) {
    if (node.op !== "normalizeRelu" || node.inputs[1].shape[0] !== 1) continue;
    const readers = users.get(node) as Value[];
    const could = readers.filter((reader) => couldReadOnLoad(reader, node));
    const able = could.filter((reader) =>
      ask(describe({ node: reader, copy: false }), (step) => device.native.normalizes(step)),
    );
    // Those of some that are fused where no others can be.
    const fusedOf = (some: readonly Value[]) => {
      const needed =
        kept.has(node) || readers.some((reader) => !some.includes(reader) && !isWeightGradient(reader));
      return some.filter((reader) => !needed || isWeightGradient(reader));
    };
    let own = fusedOf(able);
    if (better !== undefined && able.length < could.length) {
      const more = fusedOf(
        could.filter((each) => able.includes(each) || waysOf(fusedStep(each), device).length > 0),
      );
      const stepsOf = (some: readonly Value[]) => [
        ...(kept.has(node) || some.length < readers.length ? [describe({ node, copy: false })] : []),
        ...readers.flatMap((reader) => withMoments(reader, some.includes(reader), users, device)),
      ];
      if (more.length > own.length && better(stepsOf(own), stepsOf(more))) own = more;
    }
    for (const reader of own) {
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

function couldReadOnLoad(reader: Value, source: Value): boolean {
  if (!(reader.op in normalized) || reader.inputs.indexOf(source) !== 0) return false;
  return reader.inputs.lastIndexOf(source) === 0;
}

export const isNormalizedOnLoad = ({ kernel }: StepSpec) =>
  Object.values(normalized).some((op) => kernel.startsWith(op));

/** The step of a reader that normalises its source. */
function fusedStep(reader: Value): StepSpec {
  const step = describe({ node: reader, copy: false });
  const source = describe({ node: reader.inputs[0], copy: false });
  return {
    ...step,
    kernel: normalized[reader.op],
    inputs: [...source.inputs, ...step.inputs.slice(1)],
    attributes: { ...step.attributes, ...source.attributes },
  };
}

/** The step or steps of a reader, by which its source is normalised or not, with the moments that are made of its result. */
function withMoments(
  reader: Value,
  isFused: boolean,
  users: ReadonlyMap<Value, readonly Value[]>,
  device: Device,
): StepSpec[] {
  const step = isFused ? fusedStep(reader) : describe({ node: reader, copy: false });
  const moments = users.get(reader)?.find((user) => areBatchMoments(user, reader));
  if (moments === undefined || isWeightGradient(reader)) return [step];
  const own = describe({ node: moments, copy: false });
  if (!ask(step, (each) => device.native.sums(each))) return [step, own];
  const attributes = { ...step.attributes, moments: true };
  return [{ ...step, kernel: `${step.kernel}Moments`, inputs: [own.output, ...step.inputs], attributes }];
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
