import { takesOf } from "../../lib/compile/precision.ts";
import type { Attributes, TensorType, Value } from "../../lib/graph/value.ts";

/** Kernels that the compiler puts in once it has chosen what is bf16: which of their inputs are, packed weights among them. */
const joined: Readonly<Record<string, readonly number[]>> = {
  conv3dPackedMoments: [1, 2],
  normalizeReluConv3dPacked: [0, 4],
  normalizeReluConv3dPackedMoments: [1, 5],
  normalizeReluConv3dWeightGradient: [0, 4],
};

/** A step that a node could be, with the activations that its kernel takes so stored as bf16. */
export function narrowed(
  node: Value,
): { kernel: string; attributes: Attributes; inputs: TensorType[]; output: TensorType } | undefined {
  const { op: kernel, dtype, shape } = node;
  const places = joined[kernel];
  const own =
    places === undefined
      ? takesOf(node)
      : { reads: places, as: "must", writes: !kernel.endsWith("WeightGradient") };
  if (own === undefined) return undefined;
  // Packed weights are narrow as well: one of a convolution, all of several side by side.
  const isPacked = (index: number) =>
    kernel === "asppPacked" ? index > 0 : kernel === "conv3dPacked" && index === 1;
  const isNarrow = (index: number) => own.reads.includes(index) || isPacked(index);
  const inputs = node.inputs.map((input, index) => ({
    dtype: isNarrow(index) ? ("bf16" as const) : input.dtype,
    shape: input.shape,
  }));
  const attributes = own.as === "must" ? { ...node.attributes, precision: 2 } : node.attributes;
  return { kernel, attributes, inputs, output: { dtype: own.writes ? "bf16" : dtype, shape } };
}
