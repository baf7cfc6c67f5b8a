/** Which convolutions normalise what they read, and what that leaves of the passes before them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import type { Value } from "../../lib/graph/value.ts";
import { relu } from "../../lib/ops/activation.ts";
import { add, mul, sum } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { batchNorm, instanceNorm } from "../../lib/ops/norm.ts";

// The cases are small: left alone, the device would compute them directly.
process.env.VOXGRAD_CONV = "winograd";

const shape = [2, 6, 12, 12, 16];
const forward = "normalizeReluConv3dPacked";
const backward = "normalizeReluConv3dWeightGradient";

interface Parts {
  readonly x: Value;
  /** Normalisation by the batch, and ReLU. */
  readonly active: Value;
  readonly convolve: (source: Value, kernel?: number) => Value;
  readonly weights: Value[];
}

function parts(g: Graph): Parts {
  const x = g.input("x", shape);
  const weights: Value[] = [];
  const convolve = (source: Value, kernel = 3) => {
    const w = g.input(`w${weights.length}`, [16, kernel, kernel, kernel, 16]);
    weights.push(w);
    return conv3d(source, w, { padding: (kernel - 1) / 2 });
  };
  const active = relu(batchNorm(x, g.input("gamma", [16]), g.input("beta", [16])).y);
  return { x, active, convolve, weights };
}

/** The kernels of the forward pass, and those of it with the gradients of x and all weights. */
function kernels(
  build: (parts: Parts) => Value,
  options?: CompileOptions,
): { alone: string[]; step: string[] } {
  const of = (trace: (g: Graph) => Record<string, Value>) =>
    planOnly(trace, { recompute: "never", ...options }).layout.steps.map(({ spec }) => spec.kernel);
  return {
    alone: of((g) => ({ y: build(parts(g)) })),
    step: of((g) => {
      const own = parts(g);
      const y = sum(build(own));
      return Object.fromEntries(
        [y, ...gradients(y, [own.x, ...own.weights])].map((value, index) => [`${index}`, value]),
      );
    }),
  };
}

const count = (list: readonly string[], op: string) => list.filter((each) => each === op).length;

test("where only convolutions read it, the normalised activation is never written", () => {
  const { alone, step } = kernels(({ active, convolve }) => convolve(active));
  assert.is(count(alone, forward), 1);
  assert.is(count(step, forward), 1);
  assert.is(count(step, backward), 1);
  for (const list of [alone, step]) assert.is(count(list, "normalizeRelu"), 0);
});

test("two convolutions share it", () => {
  const { step } = kernels(({ active, convolve }) => mul(convolve(active), convolve(active)));
  assert.equal([count(step, forward), count(step, backward), count(step, "normalizeRelu")], [2, 2, 0]);
});

test("a skip needs it: the weight gradient alone goes without", () => {
  const { alone, step } = kernels(({ active, convolve }) => add(convolve(active), active));
  assert.equal([count(alone, forward), count(alone, "normalizeRelu")], [0, 1]);
  assert.equal([count(step, forward), count(step, backward), count(step, "normalizeRelu")], [0, 1, 1]);
});

test("so does a convolution that cannot normalise", () => {
  const { step } = kernels(({ active, convolve }) => add(convolve(active), convolve(active, 5)));
  assert.equal([count(step, forward), count(step, backward), count(step, "normalizeRelu")], [0, 1, 1]);
});

test("an output of the plan stays", () => {
  const list = planOnly((g) => {
    const { active, convolve } = parts(g);
    return { active, y: convolve(active) };
  }).layout.steps.map(({ spec }) => spec.kernel);
  assert.equal([count(list, forward), count(list, "normalizeRelu")], [0, 1]);
});

test("moments of samples stay with a pass of their own", () => {
  const { step } = kernels(({ x, convolve }) => {
    const [gamma, beta] = [x.graph.input("scale", [16]), x.graph.input("shift", [16])];
    return convolve(relu(instanceNorm(x, gamma, beta)));
  });
  assert.equal([count(step, forward), count(step, backward), count(step, "normalizeRelu")], [0, 0, 1]);
});

test("nothing is fused where that is switched off", () => {
  const { step } = kernels(({ active, convolve }) => convolve(active), { fuse: false });
  assert.equal([count(step, forward), count(step, backward), count(step, "normalize")], [0, 0, 1]);
});

test.run();
