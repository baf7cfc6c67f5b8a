import { ShapeError } from "../errors.ts";
import { formatType, type TensorType, type Value } from "../graph/value.ts";
import { add } from "./arithmetic.ts";
import { type Branches, windowOfBranch } from "./aspp.ts";
import { expectActivation } from "./check.ts";
import { expectPacked, type MeasurePacked, packedConvOp, packedWeight } from "./conv_packed.ts";
import { type AddOp, defineOp } from "./define.ts";
import { concat, slice } from "./shape.ts";

type PackedAspp = Branches & {
  /** `[kD, kH, kW]` of every branch, one behind the other. */
  readonly kernels: readonly number[];
  readonly inputGradient: boolean;
  readonly packedOnce: boolean;
  /** `[N, D, H, W, C]` of the result. */
  readonly shape: readonly number[];
};

const kernelOf = ({ kernels }: PackedAspp, branch: number) => kernels.slice(3 * branch, 3 * branch + 3);

/** `[source, packed...]`: `aspp` or its input gradient, each branch with weights that a step of its own has packed. */
const packedAsppOp: AddOp<PackedAspp> = defineOp({
  name: "asppPacked",
  infer: ([source, ...packed], { shape, inputGradient }): TensorType => {
    const op = "asppPacked";
    expectActivation(op, "the input", source);
    for (const weight of packed) expectPacked(op, weight);
    const wide = inputGradient ? source.shape[4] : shape[4];
    const same = shape.length === 5 && [0, 1, 2, 3].every((axis) => shape[axis] === source.shape[axis]);
    if (!same || wide % packed.length !== 0)
      throw new ShapeError(
        `${op}: a result [${shape.join(",")}] of ${packed.length} branches does not fit ${formatType(source)}`,
      );
    return { dtype: "f32", shape };
  },
  grad: "none",
  flops: ([source], { shape }, attributes) => {
    const taps = attributes.dilations.reduce((all, _, index) => {
      if (index % 3 !== 0) return all;
      const [d, h, w] = kernelOf(attributes, index / 3);
      return all + d * h * w;
    }, 0);
    const voxels = shape.slice(0, 4).reduce((product, extent) => product * extent, 1);
    return (2 * voxels * taps * source.shape[4] * shape[4]) / (attributes.dilations.length / 3);
  },
  fallback: ([source, ...packed], attributes) => {
    const { inputGradient, packedOnce, shape } = attributes;
    const branch = (index: number) => {
      const kernel = kernelOf(attributes, index);
      const window = windowOfBranch(attributes, index, kernel);
      return { ...window, inputGradient, packedOnce, kernel };
    };
    if (!inputGradient) {
      const own = [...shape.slice(0, 4), shape[4] / packed.length];
      return concat(
        packed.map((weight, i) => packedConvOp([source, weight], { ...branch(i), shape: own })),
        { axis: 4 },
      );
    }
    const length = source.shape[4] / packed.length;
    return packed
      .map((weight, i) =>
        packedConvOp([slice(source, { axis: 4, start: i * length, length }), weight], {
          ...branch(i),
          shape,
        }),
      )
      .reduce((sum, part) => add(sum, part));
  },
});

/** `node`, an `aspp` or its input gradient, computed from the operands `[source, w...]` by way of packed weights. */
export function packedAspp(
  node: Value,
  [source, ...weights]: readonly Value[],
  packedOnce: boolean,
  measure: MeasurePacked,
): Value {
  const { dilations } = node.attributes as Branches;
  const inputGradient = node.op === "asppInputGradient";
  const kernels = weights.flatMap(({ shape }) => shape.slice(1, 4));
  const packed = weights.map((w, index) =>
    packedWeight(
      w,
      {
        ...windowOfBranch({ dilations }, index, w.shape.slice(1, 4)),
        inputGradient,
        packedOnce,
        input: node.shape.slice(0, 4),
        output: node.shape.slice(1, 4),
      },
      measure,
    ),
  );
  return packedAsppOp([source, ...packed], {
    dilations,
    kernels,
    inputGradient,
    packedOnce,
    shape: node.shape,
  });
}
