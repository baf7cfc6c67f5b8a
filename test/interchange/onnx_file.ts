/** ONNX files and tensors as tests look at them. */
import onnxProto from "onnx-proto";
import { type Dense, permute } from "../oracle/onnx.ts";

/** A file's message, read by a protobuf library that shares no code with voxgrad. */
export const decodeModel = (bytes: Uint8Array) => onnxProto.onnx.ModelProto.decode(bytes);

export function metadataOf({ metadataProps }: ReturnType<typeof decodeModel>): Record<string, string> {
  return Object.fromEntries(metadataProps.map(({ key, value }) => [key ?? "", value ?? ""]));
}

/** `[N, C, D, H, W]` as the batch of its slices, `[N D, C, H, W]`. */
export function slicesApart(x: Dense): Dense {
  const { shape, data } = permute(x, [0, 2, 1, 3, 4]);
  return { shape: [shape[0] * shape[1], ...shape.slice(2)], data };
}
