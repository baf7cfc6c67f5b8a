import { floatField, integerField, messageField, textField, type Wire } from "./onnx_wire.ts";

/** Numbers are INT, lists of them INTS, `{ float }` is FLOAT, a word is STRING. */
export type OnnxAttribute = number | readonly number[] | string | { readonly float: number };

export interface OnnxNode {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

/** A tensor kept in the file. */
export interface OnnxTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** What goes in or comes out, float32; an extent that is a word is free. */
export interface OnnxPort {
  readonly name: string;
  readonly shape: readonly (number | string)[];
}

export interface OnnxModel {
  readonly opset: number;
  readonly name: string;
  readonly producerVersion: string;
  readonly nodes: readonly OnnxNode[];
  readonly tensors: readonly OnnxTensor[];
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
  readonly metadata: Readonly<Record<string, string>>;
}

// TensorProto.DataType and AttributeProto.AttributeType of onnx.proto.
const elementTypes = { float: 1, int64: 7 } as const;
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const;

/** The least version of the file format that brings an opset. */
function irVersion(opset: number): number {
  if (opset < 19) return 8;
  return opset < 21 ? 9 : 10;
}

/** The bytes of a model file, in pieces; field numbers are those of onnx.proto (ONNX 1.16). */
export function encodeModel(model: OnnxModel): Wire {
  const { opset, name, nodes, tensors, inputs, outputs, metadata } = model;
  const graph = [
    ...nodes.map((node) => messageField(1, encodeNode(node))),
    textField(2, name),
    ...tensors.map((tensor) => messageField(5, encodeTensor(tensor))),
    ...inputs.map((port) => messageField(11, encodePort(port))),
    ...outputs.map((port) => messageField(12, encodePort(port))),
  ];
  return [
    integerField(1, irVersion(opset)),
    textField(2, "voxgrad"),
    textField(3, model.producerVersion),
    messageField(7, ...graph),
    messageField(8, textField(1, ""), integerField(2, opset)),
    ...Object.entries(metadata).map(([key, value]) =>
      messageField(14, textField(1, key), textField(2, value)),
    ),
  ].flat();
}

function encodeNode({ name, op, inputs, output, attributes }: OnnxNode): Wire {
  return [
    ...inputs.map((input) => textField(1, input)),
    textField(2, output),
    textField(3, name),
    textField(4, op),
    ...Object.entries(attributes).map(([key, value]) =>
      messageField(5, textField(1, key), ...valueOf(value)),
    ),
  ].flat();
}

function valueOf(value: OnnxAttribute): Wire[] {
  const type = (kind: keyof typeof attributeTypes) => integerField(20, attributeTypes[kind]);
  if (typeof value === "number") return [integerField(3, value), type("int")];
  if (typeof value === "string") return [textField(4, value), type("string")];
  if ("float" in value) return [floatField(2, value.float), type("float")];
  return [...value.map((each) => integerField(8, each)), type("ints")];
}

function encodeTensor({ name, shape, data }: OnnxTensor): Wire {
  const type = data instanceof Float32Array ? elementTypes.float : elementTypes.int64;
  return [
    ...shape.map((extent) => integerField(1, extent)),
    integerField(2, type),
    textField(8, name),
    messageField(9, [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]),
  ].flat();
}

function encodePort({ name, shape }: OnnxPort): Wire {
  const extents = shape.map((extent) =>
    messageField(1, typeof extent === "number" ? integerField(1, extent) : textField(2, extent)),
  );
  const tensor = messageField(1, integerField(1, elementTypes.float), messageField(2, ...extents));
  return [textField(1, name), messageField(2, tensor)].flat();
}
