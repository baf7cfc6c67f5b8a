import { DeviceError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { cast } from "../ops/cast.ts";
import { type Device, type Precision, precisions } from "../runtime/device.ts";
import { copyGraph, remake, usersOf } from "./copy_graph.ts";

const convolutions = new Set([
  "conv3d",
  "conv3dInputGradient",
  "conv3dPacked",
  "conv3dPackWeights",
  "conv3dWeightGradient",
]);

/** `precision`, where the device has kernels for it. */
export function checkPrecision(precision: Precision, device: Device): Precision {
  if (device.precisions.includes(precision)) return precision;
  const own = device.precisions.join(", ");
  const where = precisions.includes(precision)
    ? "leave the precision out, or use device cuda"
    : `expected one of ${precisions.join(", ")}`;
  throw new DeviceError(`device ${device.name} computes in ${own}, not in ${precision}: ${where}`);
}

/**
 * Tells the kernels of convolutions, by the attribute `precision`, how closely to multiply. In bf16 it also decides
 * which activations lie in memory as bf16, and casts where others meet them.
 */
export function setPrecision(graph: Graph, precision: Precision): Graph {
  if (precision === "f32") return graph;
  const code = precisions.indexOf(precision);
  const isNarrow = precision === "bf16" ? narrowValues(graph) : () => false;
  const casts = new Map<Value, Value>();
  return copyGraph(graph, graph.nodes, (node, copyOf, to) => {
    const takes = precision === "bf16" ? takesOf(node) : undefined;
    const narrows = takes !== undefined && takesNarrow(node, takes, isNarrow);
    const stored = (value: Value, index: number): Value => {
      const copy = copyOf(value);
      const wanted = narrows && takes.reads.includes(index) ? "bf16" : "f32";
      if (copy.dtype === wanted || (copy.dtype !== "f32" && copy.dtype !== "bf16")) return copy;
      if (node.op === "conv3dPacked" && index === 1) return copy;
      let result = casts.get(copy);
      if (result === undefined) {
        result = to.scope(node.scope, () => cast(copy, wanted));
        casts.set(copy, result);
      }
      return result;
    };
    const isConvolution = convolutions.has(node.op) && !(precision === "bf16" && takes === undefined);
    const attributes = isConvolution ? { ...node.attributes, precision: code } : node.attributes;
    const dtype = isNarrow(node) ? "bf16" : node.dtype;
    return remake({ ...node, dtype }, node.inputs.map(stored), to, { op: node.op, attributes });
  });
}

/** How an op takes activations that are stored as bf16. */
interface Takes {
  /** Inputs that may be: all of them or none. */
  readonly reads: readonly number[];
  /** `must`: they have to be. `may`: either. `alike`: as the result is. */
  readonly as: "must" | "may" | "alike";
  /** Whether the result may be bf16. */
  readonly writes: boolean;
}

const must = (reads: readonly number[], writes: boolean): Takes => ({ reads, as: "must", writes });

const table: Readonly<Record<string, Takes>> = {
  conv3dPacked: must([0], true),
  conv3dPackWeights: must([], true),
  conv3dWeightGradient: must([0, 1], false),
};

function takesOf(node: Value): Takes | undefined {
  const takes = table[node.op];
  return takes?.reads.every((index) => node.inputs[index].shape.length === 5) === true ? takes : undefined;
}

/** Whether a node reads bf16, some of its operands being stored so. */
function takesNarrow(node: Value, { reads, as }: Takes, isNarrow: (value: Value) => boolean): boolean {
  if (as === "must") return true;
  if (as === "alike") return isNarrow(node);
  return reads.some((index) => isNarrow(node.inputs[index]));
}

/**
 * The results that are stored as bf16: activations, and their gradients, on their way to a convolution through ops that
 * read them so. What only losses, statistics and updates read keeps its 32 bits, and so does what is made of that alone.
 */
function narrowValues(graph: Graph): (value: Value) => boolean {
  const users = usersOf(graph);
  const kept = new Set([...graph.outputs.values(), ...graph.assignments.map(({ value }) => value)]);
  const wanted = new Set<Value>();
  for (const node of [...graph.nodes].reverse()) {
    const takes = takesOf(node);
    if (takes?.writes !== true || kept.has(node)) continue;
    const wants = (user: Value) => {
      const read = takesOf(user);
      if (read === undefined || read.as === "may") return false;
      const reads = read.reads.some((index) => user.inputs[index] === node);
      return reads && (read.as === "must" || wanted.has(user));
    };
    if (node.op === "conv3dPackWeights" || users.get(node)?.some(wants) === true) wanted.add(node);
  }
  const narrow = new Set(graph.nodes.filter(({ dtype }) => dtype === "bf16"));
  for (const node of graph.nodes) {
    if (!wanted.has(node)) continue;
    const { reads, as } = takesOf(node) as Takes;
    if (as === "must" || reads.some((index) => narrow.has(node.inputs[index]))) narrow.add(node);
  }
  return (value) => narrow.has(value);
}
