import { compile } from "../compile/compile.ts";
import { packedWeights } from "../compile/pack.ts";
import { disposeStates } from "../compile/states.ts";
import type { Graph } from "../graph/graph.ts";
import { State } from "../graph/state.ts";
import { elements, type Shape, type Value } from "../graph/value.ts";
import { add } from "../ops/arithmetic.ts";
import { concat, slice } from "../ops/shape.ts";
import { type ConvShape, convWork, type Pass, traceConv, weightShape } from "./conv.ts";
import { fillUniform } from "./fill.ts";
import { readList } from "./list.ts";
import type { Work } from "./machine.ts";
import type { Peer, Task } from "./peers.ts";
import { quantile } from "./statistics.ts";
import type { Target } from "./target.ts";
import { type Contender, repeated } from "./turns.ts";

/** Convolutions of one input side by side, whose results are joined: as lists have them. */
export interface AsppShape {
  readonly name: string;
  readonly input: Shape;
  /** Of the joined results. */
  readonly output: Shape;
  readonly branches: readonly ConvShape[];
}

/**
 * Reads a list: `NAME x=NxDxHxWxC out=CHANNELS rates=AxBxC`, a pointwise convolution and three of 1x3x3 with those
 * dilations, `out` channels each.
 *
 * @throws {DataError} naming the line that is not one.
 */
export function readAsppShapes(file: string): AsppShape[] {
  return readList(file, ["x", "out", "rates"]).map((entry) => {
    const input = entry.extents("x", 5);
    const channels = entry.integer("out");
    const branches = [0, ...entry.extents("rates", 3)].map((rate): ConvShape => {
      const size = rate === 0 ? 1 : 3;
      return {
        name: rate === 0 ? "pointwise" : `rate ${rate}`,
        input,
        output: [...input.slice(0, 4), channels],
        kernel: [1, size, size],
        stride: [1, 1, 1],
        padding: [0, rate, rate],
        dilation: [1, Math.max(1, rate), Math.max(1, rate)],
        groups: 1,
        transposed: false,
        count: 1,
      };
    });
    const output = [...input.slice(0, 4), branches.length * channels];
    const most = Math.max(...[input, output, ...branches.map(weightShape)].map(elements));
    if (most > 2 ** 31) entry.refuse(`a tensor of ${most} values is too large to measure`);
    return { name: entry.name, input, output, branches };
  });
}

/** The arithmetic of all branches; at least x and the joined result pass through memory once. */
export function asppWork({ input, output, branches }: AsppShape): Work {
  const work = branches.map((branch) => convWork(branch));
  const sum = (numbers: readonly number[]) => numbers.reduce((all, each) => all + each, 0);
  return {
    flop: sum(work.map(({ flop }) => flop)),
    validFlop: sum(work.map(({ validFlop }) => validFlop)),
    bytes: 4 * sum([input, output, ...branches.map(weightShape)].map(elements)),
  };
}

/** One op for all branches, and each branch by itself with the copies and sums that join them. */
export interface PreparedAspp extends Disposable {
  readonly fused: Contender;
  readonly apart: Contender;
  /** Milliseconds of packing all weights, where the pass reads them. */
  readonly packing?: number;
}

/** A pass as plans that are ready to be timed; weights are packed before the first run, as those of `prepareConv` are. */
export async function prepareAspp(
  shape: AsppShape,
  pass: Pass,
  target: Target,
  signal: AbortSignal,
): Promise<PreparedAspp> {
  const random = (extents: Shape) => fillUniform(new Float32Array(elements(extents)));
  const states = shape.branches.map((branch, index) => {
    const extents = weightShape(branch);
    return new State(`w${index}`, extents, { initial: () => random(extents) });
  });
  const activations: Record<string, Shape> = { x: shape.input, dy: shape.output };
  const used = { forward: ["x"], "input gradient": ["dy"], "weight gradient": ["x", "dy"] }[pass];
  const inputsOf = (graph: Graph) => used.map((name) => graph.input(name, activations[name]));
  const feed = Object.fromEntries(used.map((name) => [name, random(activations[name])]));
  const weightsOf = (graph: Graph) => states.map((state) => graph.read(state));
  const named = (results: readonly Value[]) =>
    Object.fromEntries(results.map((value, index) => [`${index}`, value]));
  const plans = [
    await compile((graph) => named(together(graph, shape, pass, inputsOf(graph), weightsOf(graph))), target),
    await compile((graph) => named(oneByOne(graph, shape, pass, inputsOf(graph), weightsOf(graph))), target),
  ];
  let packing: number | undefined;
  if (pass !== "weight gradient") {
    // Weights that are inputs may change at every run, and so are packed at every run.
    const fed = states.map(({ shape: extents }, index) => [`${index}`, extents] as const);
    using packs = await compile((graph) => {
      const weights = fed.map(([name, extents]) => graph.input(name, extents));
      const [node] = together(graph, shape, pass, inputsOf(graph), weights);
      return named(packedWeights(node, target.device));
    }, target);
    const own = Object.fromEntries(fed.map(([name, extents]) => [name, random(extents)]));
    const times = await packs.time({ ...feed, ...own }, 9, { signal });
    packing = quantile(times.slice(1), 0.5);
  }
  const [fused, apart] = plans.map((plan, index) =>
    repeated(index === 0 ? "voxgrad" : "one by one", (runs) => plan.time(feed, runs, { signal })),
  );
  return {
    fused,
    apart,
    packing,
    [Symbol.dispose]: () => {
      for (const plan of plans) plan.dispose();
      disposeStates(target.device, states);
    },
  };
}

type Trace = (
  graph: Graph,
  shape: AsppShape,
  pass: Pass,
  inputs: readonly Value[],
  weights: readonly Value[],
) => Value[];

const together: Trace = (graph, { input, output, branches }, pass, inputs, weights) => {
  const dilations = branches.flatMap(({ dilation }) => dilation);
  if (pass === "weight gradient")
    return branches.map((each, branch) => {
      const own = weightShape(each);
      const type = { dtype: "f32", shape: own } as const;
      return graph.add("asppWeightGradient", inputs, { dilations, branch, shape: own }, type);
    });
  const [op, result] = pass === "forward" ? ["aspp", output] : ["asppInputGradient", input];
  return [graph.add(op, [...inputs, ...weights], { dilations }, { dtype: "f32", shape: result })];
};

const oneByOne: Trace = (graph, { branches }, pass, inputs, weights) => {
  const joined = pass === "forward" ? undefined : inputs.at(-1);
  const parts = branches.map((branch, index) => {
    const length = branch.output[4];
    const own = inputs.map((value) =>
      value === joined ? slice(value, { axis: 4, start: index * length, length }) : value,
    );
    return traceConv(graph, branch, pass, own, weights[index]);
  });
  if (pass === "weight gradient") return parts;
  return [pass === "forward" ? concat(parts, { axis: 4 }) : parts.reduce((sum, part) => add(sum, part))];
};

/**
 * A peer that computes all branches by one request or, where it does not know such, branch by branch: its times are
 * then the sums of those of its best variants, and joining the results costs it nothing.
 */
export function asppPeer(peer: Peer, task: Task, branches: readonly Task[]): Contender {
  let joined = true;
  return {
    name: peer.label,
    async time(seconds) {
      if (joined)
        try {
          return (await peer.ask(task, seconds)).times;
        } catch {
          joined = false;
        }
      const best: number[][] = [];
      for (const branch of branches) {
        const { times } = await peer.ask(branch, seconds / branches.length);
        best.push(Object.values(times).sort((a, b) => quantile(a, 0.5) - quantile(b, 0.5))[0]);
      }
      const runs = Math.min(...best.map(({ length }) => length));
      const total = (run: number) => best.reduce((all, times) => all + times[run], 0);
      return { "branch by branch": Array.from({ length: runs }, (_, run) => total(run)) };
    },
  };
}
