import { takesOf } from "../../lib/compile/precision.ts";
import type { Attributes, TensorType, Value } from "../../lib/graph/value.ts";

/** A step that a node could be, with the activations that its kernel takes so stored as bf16. */
export function narrowed(
  node: Value,
): { kernel: string; attributes: Attributes; inputs: TensorType[]; output: TensorType } | undefined {
  const own = takesOf(node);
  if (own === undefined) return undefined;
  const { op: kernel, dtype, shape } = node;
  // The packed weights of a convolution are narrow as well.
  const isNarrow = (index: number) => own.reads.includes(index) || (kernel === "conv3dPacked" && index === 1);
  const inputs = node.inputs.map((input, index) => ({
    dtype: isNarrow(index) ? ("bf16" as const) : input.dtype,
    shape: input.shape,
  }));
  const attributes = own.as === "must" ? { ...node.attributes, precision: 2 } : node.attributes;
  return { kernel, attributes, inputs, output: { dtype: own.writes ? "bf16" : dtype, shape } };
}
