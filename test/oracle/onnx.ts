/** Single-operator ONNX models, made in memory and run by onnxruntime: an oracle that shares no code with voxgrad. */
import onnxProto from "onnx-proto";
import type * as Runtime from "onnxruntime-node";
import { elements, type Shape } from "../../lib/graph/value.ts";

const { onnx } = onnxProto;
type AttributeValue = number | readonly number[] | string | { readonly float: number };

export interface Dense {
  readonly shape: Shape;
  readonly data: Float32Array;
}

/** Loads onnxruntime's CPU backend, or says why this platform cannot. */
export async function loadRuntime(): Promise<typeof Runtime | string> {
  try {
    return await import("onnxruntime-node");
  } catch (error) {
    return `onnxruntime-node cannot be loaded on ${process.platform}-${process.arch}: ${(error as Error).message}`;
  }
}

function attribute(name: string, value: AttributeValue) {
  const { AttributeType } = onnx.AttributeProto;
  if (typeof value === "number") return { name, type: AttributeType.INT, i: value };
  if (typeof value === "string") return { name, type: AttributeType.STRING, s: Buffer.from(value) };
  if ("float" in value) return { name, type: AttributeType.FLOAT, f: value.float };
  return { name, type: AttributeType.INTS, ints: [...value] };
}

/**
 * A model of one node `op` with these inputs in order, an empty name standing for an absent one. Whole numbers
 * become integer attributes; `{ float }` makes one of floating point.
 */
export function modelOf(
  op: string,
  inputs: readonly (readonly [name: string, shape: Shape] | "")[],
  attributes: Readonly<Record<string, AttributeValue>>,
  opset: number,
): Uint8Array {
  const float = onnx.TensorProto.DataType.FLOAT;
  const present = inputs.filter((input) => input !== "");
  return onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [{ domain: "", version: opset }],
    graph: {
      name: op,
      node: [
        {
          opType: op,
          input: inputs.map((input) => (input === "" ? "" : input[0])),
          output: ["y"],
          attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
        },
      ],
      input: present.map(([name, shape]) => ({
        name,
        type: { tensorType: { elemType: float, shape: { dim: shape.map((dimValue) => ({ dimValue })) } } },
      })),
      output: [{ name: "y", type: { tensorType: { elemType: float } } }],
    },
  }).finish();
}

/** The extents and values with the axes in another order: axis `i` of the result is axis `order[i]` of `from`. */
export function permute(from: Dense, order: readonly number[]): Dense {
  const shape = order.map((axis) => from.shape[axis]);
  const strides = from.shape.map((_, axis) => elements(from.shape.slice(axis + 1)));
  const data = new Float32Array(from.data.length);
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < data.length; i++) {
    data[i] = from.data[order.reduce((offset, axis, k) => offset + index[k] * strides[axis], 0)];
    for (let k = shape.length - 1; k >= 0 && ++index[k] === shape[k]; k--) index[k] = 0;
  }
  return { shape, data };
}

/** `[N, D, H, W, C]` to ONNX's `[N, C, D, H, W]`; weights `[Cout, k, k, k, Cin]` to `[Cout, Cin, k, k, k]` alike. */
export const channelsFirst = (x: Dense): Dense => permute(x, [0, 4, 1, 2, 3]);

/** The inverse of `channelsFirst`. */
export const channelsLast = (x: Dense): Dense => permute(x, [0, 2, 3, 4, 1]);
