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
  "asppPacked",
  "asppWeightGradient",
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
    if (node.op === "cast") {
      const copy = copyOf(node.inputs[0]);
      return copy.dtype === node.dtype ? copy : remake(node, [copy], to);
    }
    const own = precision === "bf16" ? takesOf(node) : undefined;
    const narrows = own !== undefined && takesNarrow(node, own, isNarrow);
    const stored = (value: Value, index: number): Value => {
      const copy = copyOf(value);
      const isPackedWeight = index > 0 && value.op === "conv3dPackWeights";
      const wanted = narrows && own.reads.includes(index) ? "bf16" : "f32";
      if (copy.dtype === wanted || copy.dtype === "u8" || copy.dtype === "i32" || isPackedWeight) return copy;
      // What was bf16 before it became a float is so again without loss.
      if (wanted === "bf16" && copy.op === "cast") return copy.inputs[0];
      let result = casts.get(copy);
      if (result === undefined) {
        result = to.scope(node.scope, () => cast(copy, wanted));
        casts.set(copy, result);
      }
      return result;
    };
    const isConvolution = convolutions.has(node.op) && !(precision === "bf16" && own === undefined);
    const attributes = isConvolution ? { ...node.attributes, precision: code } : node.attributes;
    const dtype = isNarrow(node) ? "bf16" : node.dtype;
    return remake({ ...node, dtype }, node.inputs.map(stored), to, { op: node.op, attributes });
  });
}

/** How an op takes activations that are stored as bf16. */
export interface Takes {
  /** Inputs that may be: all of them or none. */
  readonly reads: readonly number[];
  /** `must`: they have to be. `may`: either. `alike`: as the result is. */
  readonly as: "must" | "may" | "alike";
  /** Whether the result may be bf16. */
  readonly writes: boolean;
}

const must = (reads: readonly number[], writes: boolean): Takes => ({ reads, as: "must", writes });
const may = (...reads: readonly number[]): Takes => ({ reads, as: "may", writes: false });
const alike = (...reads: readonly number[]): Takes => ({ reads, as: "alike", writes: true });

/** What the CUDA kernels can; `concat` reads all its inputs. */
export const takes: Readonly<Record<string, Takes>> = {
  conv3dPacked: must([0], true),
  conv3dPackWeights: must([], true),
  conv3dWeightGradient: must([0, 1], false),
  asppPacked: must([0], true),
  asppWeightGradient: must([0, 1], false),
  moments: may(0),
  normalizeGradientSums: may(0, 2),
  sumToChannels: may(0),
  normalize: alike(0),
  normalizeRelu: alike(0),
  normalizeReluAdd: alike(0, 4),
  normalizeReluSum: alike(0, 4),
  normalizeAddRelu: alike(0, 4),
  normalizeInputGradient: alike(0, 4),
  relu: alike(0),
  reluGradient: alike(0, 1),
  leakyRelu: alike(0),
  leakyReluGradient: alike(0, 1),
  add: alike(0, 1),
  mul: alike(0, 1),
  scale: alike(0),
  dropout: alike(0),
  concat: alike(),
  slice: alike(0),
  padSlice: alike(0),
  maxPool3d: alike(0),
  maxPool3dGradient: alike(0, 1),
  averagePool3d: alike(0),
  averagePool3dGradient: alike(0),
  globalAveragePool: alike(0),
  globalAveragePoolGradient: alike(0),
  resize: alike(0),
  resizeGradient: alike(0),
};

/** What a node can, and nothing where it knows floats alone. */
export function takesOf(node: Value): Takes | undefined {
  const own = node.op === "concat" ? alike(...node.inputs.keys()) : takes[node.op];
  const isActivation = ({ dtype, shape }: Value) =>
    shape.length === 5 && (dtype === "f32" || dtype === "bf16");
  return own?.reads.every((index) => isActivation(node.inputs[index])) === true ? own : undefined;
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
    const packs = node.op === "conv3dPackWeights";
    if (takesOf(node)?.writes !== true || (kept.has(node) && !packs)) continue;
    const wants = (user: Value) => {
      if (user.op === "cast") return true;
      const read = takesOf(user);
      if (read === undefined || read.as === "may") return false;
      const reads = read.reads.some((index) => user.inputs[index] === node);
      return reads && (read.as === "must" || wanted.has(user));
    };
    if (packs || users.get(node)?.some(wants) === true) wanted.add(node);
  }
  const narrow = new Set(graph.nodes.filter(({ dtype }) => dtype === "bf16"));
  for (const node of graph.nodes) {
    if (!wanted.has(node)) continue;
    const { reads, as } = takesOf(node) as Takes;
    if (as === "must" || reads.some((index) => narrow.has(node.inputs[index]))) narrow.add(node);
  }
  return (value) => narrow.has(value);
}
