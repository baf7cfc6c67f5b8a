import type { Attributes, Value } from "../graph/value.ts";
import { sameShape } from "../graph/value.ts";
import { windowOfBranch } from "../ops/aspp.ts";
import { type OnnxBuilder, refusal } from "./onnx_builder.ts";

/** How one op is written in ONNX. */
interface Translation {
  /** Adds the nodes that compute `value` and returns the tensor that holds it. */
  write(value: Value, to: OnnxBuilder): string;
  /** Whether it leaves slices along the depth apart; default: it does. */
  inSlices?(value: Value): boolean;
}

/** Attributes as ops have stored them; their `infer` has checked them. */
const triple = (attributes: Attributes, name: string) => attributes[name] as readonly number[];
const number = (attributes: Attributes, name: string) => attributes[name] as number;

/** Whether a window takes one slice after another. */
function windowInSlices(taps: number, attributes: Attributes): boolean {
  return taps === 1 && triple(attributes, "stride")[0] === 1 && triple(attributes, "padding")[0] === 0;
}

function pads(padding: readonly number[]): number[] {
  return [...padding, ...padding];
}

function convAttributes({ attributes }: Value, to: OnnxBuilder) {
  return {
    strides: to.spatial(triple(attributes, "stride")),
    pads: pads(to.spatial(triple(attributes, "padding"))),
    dilations: to.spatial(triple(attributes, "dilation")),
    group: number(attributes, "groups"),
  };
}

function convInputs(value: Value, to: OnnxBuilder): string[] {
  const [x, w, bias] = value.inputs;
  const inputs = [to.of(x), to.kernel(w, value)];
  return bias === undefined ? inputs : [...inputs, to.vector(bias, value)];
}

/** One `Conv` for each branch, their results joined. */
function aspp(value: Value, to: OnnxBuilder): string {
  const [x, ...weights] = value.inputs;
  const dilations = triple(value.attributes, "dilations");
  const branches = weights.map((w, index) => {
    const { stride, padding, dilation, groups } = windowOfBranch({ dilations }, index, w.shape.slice(1, 4));
    return to.node(value, "Conv", [to.of(x), to.kernel(w, value)], {
      strides: to.spatial(stride),
      pads: pads(to.spatial(padding)),
      dilations: to.spatial(dilation),
      group: groups,
    });
  });
  return to.node(value, "Concat", branches, { axis: to.axis(4) });
}

const convInSlices = ({ inputs, attributes }: Value) => windowInSlices(inputs[1].shape[1], attributes);

function transposedConv(value: Value, to: OnnxBuilder): string {
  const [x, w] = value.inputs;
  const extra = (own: Value, at: Value) =>
    triple(own.attributes, "shape").map((extent, axis) => {
      const along = (name: string) => triple(own.attributes, name)[axis];
      const reach = along("dilation") * (w.shape[axis + 1] - 1) + 1;
      return extent - ((at.shape[axis + 1] - 1) * along("stride") - 2 * along("padding") + reach);
    });
  const outputPadding = extra(value, x);
  if (!sameShape(outputPadding, extra(to.traces.twin(value), to.traces.twin(x))))
    throw refusal(value, "the extents of its result do not follow from those of its input");
  return to.node(value, "ConvTranspose", convInputs(value, to), {
    ...convAttributes(value, to),
    output_padding: to.spatial(outputPadding),
  });
}

function batchNormalization(value: Value, to: OnnxBuilder): string {
  const [x, moments, gamma, beta] = value.inputs;
  const channels = x.shape[4];
  if (!sameShape(moments.shape, [1, channels, 2]))
    throw refusal(value, `its moments are [${moments.shape.join(",")}], not [1,${channels},2]`);
  const data = to.contentsOf(moments, value);
  const { name } = value.graph.stateOf(moments) as { name: string };
  const half = (which: string, at: number) =>
    to.tensor(
      `${name}.${which}`,
      [channels],
      data.filter((_, index) => index % 2 === at),
    );
  return to.node(
    value,
    "BatchNormalization",
    [to.of(x), to.vector(gamma, value), to.vector(beta, value), half("mean", 0), half("variance", 1)],
    { epsilon: { float: number(value.attributes, "epsilon") } },
  );
}

function prelu(value: Value, to: OnnxBuilder): string {
  const [x, slope] = value.inputs;
  const shape = [slope.shape[0], ...to.spatial([1, 1, 1])];
  const name = slope.graph.stateOf(slope)?.name ?? "slope";
  return to.node(value, "PRelu", [to.of(x), to.tensor(name, shape, to.contentsOf(slope, value))]);
}

function averagePool(value: Value, to: OnnxBuilder): string {
  const [x] = value.inputs;
  const twin = to.traces.twin(value);
  const kernel = triple(value.attributes, "kernel");
  const twinKernel = triple(twin.attributes, "kernel");
  if (sameShape(kernel, twinKernel))
    return to.node(value, "AveragePool", [to.of(x)], {
      ...poolAttributes(value, to),
      count_include_pad: value.attributes.countIncludePad === true ? 1 : 0,
    });
  const whole = [0, 1, 2].filter(
    (axis) => kernel[axis] === x.shape[axis + 1] && twinKernel[axis] === twin.inputs[0].shape[axis + 1],
  );
  const { stride, padding } = value.attributes as { stride: readonly number[]; padding: readonly number[] };
  const isMean = [0, 1, 2].every(
    (axis) => padding[axis] === 0 && (whole.includes(axis) || (kernel[axis] === 1 && stride[axis] === 1)),
  );
  if (!isMean)
    throw refusal(value, "its window depends on the extents of the image, and is not all of an axis");
  const axes = whole.map((axis) => to.axis(axis + 1));
  if (to.opset < 18) return to.node(value, "ReduceMean", [to.of(x)], { axes, keepdims: 1 });
  return to.node(value, "ReduceMean", [to.of(x), to.integers(value, "axes", axes)], { keepdims: 1 });
}

function poolAttributes({ attributes }: Value, to: OnnxBuilder) {
  return {
    kernel_shape: to.spatial(triple(attributes, "kernel")),
    strides: to.spatial(triple(attributes, "stride")),
    pads: pads(to.spatial(triple(attributes, "padding"))),
  };
}

const poolInSlices = ({ attributes }: Value) => windowInSlices(triple(attributes, "kernel")[0], attributes);

/** To the size of another tensor of the model, which is looked up when the model runs. */
function resize(value: Value, to: OnnxBuilder): string {
  const [x] = value.inputs;
  const twin = to.traces.twin(value);
  const like = to.traces.sizedLike(value);
  if (like === undefined)
    throw refusal(value, `no tensor before it has the size ${value.shape.slice(1, 4).join("x")}`);
  const shape = to.node(
    value,
    "Concat",
    [
      to.node(value, "Shape", [to.of(x)], { start: 0, end: 2 }),
      to.node(value, "Shape", [to.of(like)], { start: 2 }),
    ],
    { axis: 0 },
  );
  const spreads = [value, twin].every((own) =>
    own.inputs[0].shape.every((extent, axis) => extent === 1 || extent === own.shape[axis]),
  );
  if (spreads) return to.node(value, "Expand", [to.of(x), shape]);
  if (value.attributes.linear !== true)
    throw refusal(
      value,
      "runtimes round positions of nearest neighbours each in their own way; use mode linear",
    );
  return to.node(value, "Resize", [to.of(x), "", "", shape], {
    mode: "linear",
    coordinate_transformation_mode: value.attributes.alignCorners === true ? "align_corners" : "half_pixel",
  });
}

function softmax(value: Value, to: OnnxBuilder): string {
  const temperature = number(value.attributes, "temperature");
  const x = to.of(value.inputs[0]);
  const logits =
    temperature === 1 ? x : to.node(value, "Mul", [x, to.scalar(value, "temperature", 1 / temperature)]);
  return to.node(value, "Softmax", [logits], { axis: to.axis(4) });
}

/** An op of the same operands and no attributes. */
const plain = (op: string): Translation => ({
  write: (value, to) =>
    to.node(
      value,
      op,
      value.inputs.map((input) => to.of(input)),
    ),
});

/** The ops that ONNX export knows, for opsets 15 to 22. */
export const translations: Readonly<Record<string, Translation>> = {
  conv3d: {
    write: (value, to) => to.node(value, "Conv", convInputs(value, to), convAttributes(value, to)),
    inSlices: convInSlices,
  },
  aspp: {
    write: aspp,
    inSlices: ({ inputs: [, ...weights] }) => weights.every(({ shape }) => shape[1] === 1),
  },
  conv3dInputGradient: { write: transposedConv, inSlices: convInSlices },
  normalize: { write: batchNormalization },
  relu: plain("Relu"),
  leakyRelu: {
    write: (value, to) =>
      to.node(value, "LeakyRelu", [to.of(value.inputs[0])], {
        alpha: { float: number(value.attributes, "slope") },
      }),
  },
  prelu: { write: prelu },
  add: plain("Add"),
  mul: plain("Mul"),
  scale: {
    write: (value, to) =>
      to.node(value, "Mul", [
        to.of(value.inputs[0]),
        to.scalar(value, "factor", number(value.attributes, "factor")),
      ]),
  },
  constant: { write: (value, to) => to.scalar(value, "constant", number(value.attributes, "value")) },
  concat: {
    write: (value, to) =>
      to.node(
        value,
        "Concat",
        value.inputs.map((input) => to.of(input)),
        {
          axis: to.axis(number(value.attributes, "axis")),
        },
      ),
    inSlices: ({ attributes }) => attributes.axis !== 1,
  },
  maxPool3d: {
    write: (value, to) => to.node(value, "MaxPool", [to.of(value.inputs[0])], poolAttributes(value, to)),
    inSlices: poolInSlices,
  },
  averagePool3d: { write: averagePool, inSlices: poolInSlices },
  globalAveragePool: {
    write: (value, to) => to.node(value, "GlobalAveragePool", [to.of(value.inputs[0])]),
    inSlices: () => false,
  },
  resize: { write: resize, inSlices: ({ inputs, shape }) => inputs[0].shape[1] === shape[1] },
  softmax: { write: softmax },
};
