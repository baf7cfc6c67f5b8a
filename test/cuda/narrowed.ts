import { takesOf } from "../../lib/compile/precision.ts";
import type { Attributes, TensorType, Value } from "../../lib/graph/value.ts";

/** A step that a node could be, with the activations that its kernel takes so stored as bf16. */
export function narrowed(
  node: Value,
): { kernel: string; attributes: Attributes; inputs: TensorType[]; output: TensorType } | undefined {
  const own = takesOf(node);
  if (own === undefined) return undefined;
  const { op: kernel, dtype, shape } = node;
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
