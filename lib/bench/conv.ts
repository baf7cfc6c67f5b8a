import { compile, planOnly } from "../compile/compile.ts";
import { packedWeights } from "../compile/pack.ts";
import { disposeStates } from "../compile/states.ts";
import type { Graph } from "../graph/graph.ts";
import { State } from "../graph/state.ts";
import { elements, type Operand, type Shape, type Value } from "../graph/value.ts";
import { fillUniform, upperHalves } from "./fill.ts";
import { cast } from "../ops/cast.ts";
import type { Precision } from "../runtime/device.ts";
import { readList } from "./list.ts";
import type { Work } from "./machine.ts";
import { quantile } from "./statistics.ts";
import type { Target } from "./target.ts";
import { type Contender, repeated } from "./turns.ts";

export const passes = ["forward", "input gradient", "weight gradient"] as const;
export type Pass = (typeof passes)[number];

/** A convolution of a network, as lists have it. Three numbers are of depth, height, width. */
export interface ConvShape {
  readonly name: string;
  /** `[N, D, H, W, C]`. */
  readonly input: Shape;
  readonly output: Shape;
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly transposed: boolean;
  readonly groups: number;
  /** How many of them the network has; the totals of a list count them. */
  readonly count: number;
}

const keys = ["x", "out", "kernel", "stride", "padding", "dilation", "groups", "kind", "count"];

/**
 * Reads a list of convolutions: `NAME x=NxDxHxWxC out=CHANNELS kernel=K [stride=S] [padding=P] [dilation=R]
 * [groups=G] [kind=transposed] [count=N]`, where K, S, P and R are one number or DxHxW.
 *
 * @throws {DataError} naming the line that is not one.
 */
export function readConvShapes(file: string): ConvShape[] {
  return readList(file, keys).map((entry) => {
    const input = entry.extents("x", 5);
    const channels = entry.integer("out");
    const kernel = entry.extents("kernel", 3, { spread: true });
    const stride = entry.extents("stride", 3, { spread: true, fallback: 1 });
    const padding = entry.extents("padding", 3, { spread: true, fallback: 0, least: 0 });
    const dilation = entry.extents("dilation", 3, { spread: true, fallback: 1 });
    const groups = entry.integer("groups", { fallback: 1 });
    if (input[4] % groups !== 0 || channels % groups !== 0)
      entry.refuse(`groups=${groups} must divide the ${input[4]} channels of x and the ${channels} of out`);
    const transposed = entry.word("kind", ["plain", "transposed"], "plain") === "transposed";
    const count = entry.integer("count", { fallback: 1, least: 0 });
    const spatial = [0, 1, 2].map((axis) => {
      const reach = dilation[axis] * (kernel[axis] - 1) + 1;
      const extent = input[axis + 1];
      if (transposed) return (extent - 1) * stride[axis] - 2 * padding[axis] + reach;
      return Math.floor((extent + 2 * padding[axis] - reach) / stride[axis]) + 1;
    });
    if (spatial.some((extent) => extent < 1))
      entry.refuse("the result has no voxel: the kernel is too large");
    const output = [input[0], ...spatial, channels];
    const window = { kernel, stride, padding, dilation, groups, transposed };
    const shape = { name: entry.name, input, output, ...window, count };
    const most = Math.max(...[input, output, weightShape(shape)].map(elements));
    if (most > 2 ** 31) entry.refuse(`a tensor of ${most} values is too large to measure`);
    return shape;
  });
}

/** Of `[Cout, kD, kH, kW, Cin / groups]`; a transposed convolution is the input gradient of one with the channels exchanged. */
export function weightShape({
  input,
  output,
  kernel,
  groups,
  transposed,
}: Omit<ConvShape, "count">): number[] {
  const [first, last] = transposed ? [input[4], output[4]] : [output[4], input[4]];
  return [first, ...kernel, last / groups];
}

/** The same for all passes: each reads two of the three tensors and writes the third. */
export function convWork(shape: ConvShape, precision: Precision = "f32"): Work {
  const { input, output, kernel, stride, padding, dilation, groups, transposed } = shape;
  const [large, small] = transposed ? [output, input] : [input, output];
  const valid = [0, 1, 2].map((axis) => {
    let pairs = 0;
    for (let o = 0; o < small[axis + 1]; o++)
      for (let tap = 0; tap < kernel[axis]; tap++) {
        const at = o * stride[axis] + tap * dilation[axis] - padding[axis];
        if (at >= 0 && at < large[axis + 1]) pairs++;
      }
    return pairs;
  });
  const product = (list: readonly number[]) => list.reduce((all, each) => all * each, 1);
  const channels = (2 * input[0] * input[4] * output[4]) / groups;
  return {
    flop: channels * product(kernel) * product(small.slice(1, 4)),
    validFlop: channels * product(valid),
    bytes:
      (precision === "bf16" ? 2 : 4) *
      [input, output, weightShape(shape)].map(elements).reduce((a, b) => a + b),
  };
}

/**
 * A pass of a convolution as a plan of that one op, ready to be timed; `dispose` gives its memory back. Its weights are a
 * state that the plan does not train, and bf16 activations are so to begin with: weights are packed before the first run, as the peers' are. `packing` is how many
 * milliseconds that takes, where the pass reads weights. `others`: the same by cuDNN, where a GPU has it and it takes the convolution.
 */
export async function prepareConv(
  shape: ConvShape,
  pass: Pass,
  target: Target,
  signal: AbortSignal,
): Promise<Disposable & { contender: Contender; others: readonly Contender[]; packing?: number }> {
  const { device } = target;
  const narrow = target.precision === "bf16";
  const random = (extents: Shape) => fillUniform(new Float32Array(elements(extents)));
  const extents = weightShape(shape);
  const w = new State("w", extents, { initial: () => random(extents) });
  const activations = activationsOf(shape, pass);
  const traceWith = (graph: Graph, weights: Operand) =>
    traceConv(
      graph,
      shape,
      pass,
      activations.map((each, index) =>
        narrow ? cast(graph.input(`${index}`, each, "bf16"), "f32") : graph.input(`${index}`, each),
      ),
      weights,
    );
  const feed = Object.fromEntries(
    activations.map((each, index) => [`${index}`, narrow ? upperHalves(random(each)) : random(each)]),
  );
  const trace = (graph: Graph) => {
    const result = traceWith(graph, w);
    return { result: narrow && pass !== "weight gradient" ? cast(result, "bf16") : result };
  };
  const plan = await compile(trace, target);
  const byCudnn = { ...target, tune: { prefer: "cuDNN" } };
  const taken = planOnly(trace, byCudnn).layout.steps.some(({ algorithm }) => algorithm?.startsWith("cuDNN"));
  const rivals = taken ? [await compile(trace, byCudnn)] : [];
  const timed = (name: string, own: typeof plan) =>
    repeated(name, (runs) => own.time(feed, runs, { signal }));
  let packing: number | undefined;
  if (pass !== "weight gradient") {
    // Weights that are an input may change at every run, and so are packed at every run.
    using packs = await compile(
      (graph) => ({ packed: packedWeights(traceWith(graph, graph.input("w", extents)), device)[0] }),
      target,
    );
    const times = await packs.time({ ...feed, w: random(extents) }, 9, { signal });
    packing = quantile(times.slice(1), 0.5);
  }
  return {
    contender: timed("voxgrad", plan),
    others: rivals.map((rival) => timed("cudnn", rival)),
    packing,
    [Symbol.dispose]: () => {
      for (const each of [plan, ...rivals]) each.dispose();
      disposeStates(device, [w]);
    },
  };
}

/** What a pass reads besides weights. The op takes a convolution's own input first: of a transposed one, its result's gradient. */
function activationsOf({ input, output, transposed }: ConvShape, pass: Pass): Shape[] {
  if (pass === "forward") return [input];
  if (pass === "input gradient") return [output];
  return transposed ? [output, input] : [input, output];
}

/** The pass as a node of `graph`; `inputs` are what it reads besides weights. */
export function traceConv(
  graph: Graph,
  shape: ConvShape,
  pass: Pass,
  inputs: readonly Value[],
  w: Operand,
): Value {
  const { stride, padding, dilation, groups, transposed, input, output } = shape;
  const window = { stride, padding, dilation, groups };
  if (pass === "weight gradient") {
    const extents = weightShape(shape);
    const attributes = { ...window, shape: extents };
    return graph.add("conv3dWeightGradient", inputs, attributes, { dtype: "f32", shape: extents });
  }
  const operands = [...inputs, w instanceof State ? graph.read(w) : w];
  const result = pass === "forward" ? output : input;
  const type = { dtype: "f32", shape: result } as const;
  if ((pass === "forward") !== transposed) return graph.add("conv3d", operands, window, type);
  return graph.add("conv3dInputGradient", operands, { ...window, shape: result.slice(1, 4) }, type);
}
