import { ShapeError } from "../errors.ts";
import { type Attributes, formatType, type Shape, type TensorType, type Value } from "../graph/value.ts";
import { expectActivation, expectDType, expectRank } from "./check.ts";
import { type AddOp, defineOp, type Op } from "./define.ts";

/**
 * Convolutions whose weights a step of their own has put into the order in which the kernel reads them (or, for
 * Winograd's algorithm, has transformed). The compiler writes `conv3d` and `conv3dInputGradient` this way; see
 * lib/compile/pack.ts. The order is the device's business: packed weights are a flat tensor to everybody else.
 */
type Packed = {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;
  readonly inputGradient: boolean;
  /** Whether the packed weights serve many runs, so that packing them may take its time. */
  readonly packedOnce: boolean;
};

export type PackedConv = Packed & {
  /** `[kD, kH, kW]`. */
  readonly kernel: readonly number[];
  /** `[N, D, H, W, C]` of the result. */
  readonly shape: readonly number[];
};

type PackWeights = Packed & {
  /** `[N, D, H, W]` and `[D, H, W]` of the convolution's input and output. */
  readonly input: readonly number[];
  readonly output: readonly number[];
  /** Length of the packed weights, as the device wants it. */
  readonly floats: number;
};

const packWeightsOp: AddOp<PackWeights> = defineOp({
  name: "conv3dPackWeights",
  infer: ([w], { floats }) => {
    const op = "conv3dPackWeights";
    expectDType(op, "the weight", w, "f32");
    expectRank(op, "the weight [Cout, kD, kH, kW, Cin / groups]", w, 5);
    return { dtype: "f32", shape: [floats] };
  },
  grad: "none",
  flops: () => 0,
  keep: true,
});

/** Throws a ShapeError unless `w` is flat, as packed weights are, or a weight that a kernel reads as it is. */
export function expectPacked(op: string, w: TensorType): void {
  expectDType(op, "the packed weight", w, "f32");
  if (w.shape.length !== 5) expectRank(op, "the packed weight", w, 1);
}

export const conv3dPacked: Op<PackedConv> = {
  name: "conv3dPacked",
  infer: ([source, packed, bias], { shape }): TensorType => {
    const op = "conv3dPacked";
    expectActivation(op, "the input", source);
    expectPacked(op, packed);
    if (shape.length !== 5 || shape[0] !== source.shape[0])
      throw new ShapeError(`${op}: a result [${shape.join(",")}] does not fit ${formatType(source)}`);
    if (bias !== undefined) expectDType(op, "the bias", bias, "f32");
    return { dtype: "f32", shape };
  },
  grad: "none",
  flops: ([source], result, { kernel, groups, inputGradient }) => {
    const [voxels, channels] = inputGradient
      ? [source.shape, result.shape[4]]
      : [result.shape, source.shape[4]];
    return (2 * [...voxels, ...kernel].reduce((a, b) => a * b, 1) * channels) / groups;
  },
};
/** `[source, packed, bias?]`. */
export const packedConvOp: AddOp<PackedConv> = defineOp(conv3dPacked);

/** Says how long packed weights are, given the step that will pack them but for its length; 0 where nothing is to be packed. */
export type MeasurePacked = (op: string, w: Value, attributes: Attributes) => number;

/** `w` as the kernel of a convolution, or of an input gradient, reads it: packed, unless that wants it as it is. */
export function packedWeight(w: Value, packing: Omit<PackWeights, "floats">, measure: MeasurePacked): Value {
  const floats = measure("conv3dPackWeights", w, packing);
  return floats === 0 ? w : packWeightsOp([w], { ...packing, floats });
}

/** The convolution, or input gradient, `node`, computed from the operands `[source, w, bias?]` by way of packed weights. */
export function packedConv(
  node: Value,
  operands: readonly Value[],
  packedOnce: boolean,
  measure: MeasurePacked,
): Value {
  const [source, w, ...bias] = operands;
  const { stride, padding, dilation, groups } = node.attributes as Packed;
  const inputGradient = node.op === "conv3dInputGradient";
  const common = { stride, padding, dilation, groups, inputGradient, packedOnce };
  const [x, y]: Shape[] = inputGradient ? [node.shape, source.shape] : [source.shape, node.shape];
  const packed = packedWeight(w, { ...common, input: x.slice(0, 4), output: y.slice(1, 4) }, measure);
  return packedConvOp([source, packed, ...bias], {
    ...common,
    kernel: w.shape.slice(1, 4),
    shape: node.shape,
  });
}
