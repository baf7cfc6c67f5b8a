/** What the compiler makes of base ops, and that it computes the same. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements, type Value } from "../../lib/graph/value.ts";
import { relu, reluGradient } from "../../lib/ops/activation.ts";
import { add, mul, sum } from "../../lib/ops/arithmetic.ts";
import { batchNorm, batchNormEval, groupNorm } from "../../lib/ops/norm.ts";
import { normalizeGradient } from "../../lib/ops/norm_gradient.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";

const shape = [2, 3, 4, 5, 6];

function tensors(g: Graph) {
  const [gamma, beta] = [g.input("gamma", [6]), g.input("beta", [6])];
  return { x: g.input("x", shape), gamma, beta, residual: g.input("residual", shape) };
}

type Tensors = ReturnType<typeof tensors>;

/** Result and gradients of all inputs. */
const step = (build: (t: Tensors) => Value) => (g: Graph) => {
  const t = tensors(g);
  const y = build(t);
  const own = Object.entries<Value>(t);
  const slopes = gradients(
    sum(mul(y, g.input("weights", shape))),
    own.map(([, value]) => value),
  );
  return { y, ...Object.fromEntries(own.map(([name], index) => [`d${name}`, slopes[index]])) };
};

const kernels = (build: (t: Tensors) => Value, options?: CompileOptions) =>
  planOnly(step(build), options).layout.steps.map(({ spec }) => spec.kernel);

async function run(
  build: (t: Tensors) => Value,
  options: CompileOptions,
): Promise<Record<string, Float32Array>> {
  const plan = await compile(step(build), { paranoid: true, ...options });
  const feed = Object.fromEntries(
    [...plan.graph.inputs].map(([name, type], index) => [
      name,
      // Above 0, as the variances of running moments are.
      Float32Array.from(random(elements(type.shape), index + 1), (value) =>
        name === "running" ? value + 1.5 : value,
      ),
    ]),
  );
  const results = await plan.run(feed);
  plan.dispose();
  return results as Record<string, Float32Array>;
}

const chains: [string, (t: Tensors) => Value, string[], string[]][] = [
  [
    "relu of batch norm",
    ({ x, gamma, beta }) => relu(batchNorm(x, gamma, beta).y),
    ["normalizeRelu"],
    ["normalize", "relu", "reluGradient"],
  ],
  [
    "relu of group norm, plus a residual",
    ({ x, gamma, beta, residual }) => add(relu(groupNorm(x, gamma, beta, { groups: 2 })), residual),
    ["normalizeReluAdd"],
    ["normalize", "relu", "reluGradient", "add"],
  ],
  [
    "a residual plus relu of batch norm",
    ({ x, gamma, beta, residual }) => add(residual, relu(batchNorm(x, gamma, beta).y)),
    ["normalizeReluAdd"],
    ["normalize", "relu", "reluGradient", "add"],
  ],
  [
    "relu of batch norm plus relu of batch norm",
    ({ x, gamma, beta, residual }) =>
      add(relu(batchNorm(x, gamma, beta).y), relu(batchNorm(residual, gamma, beta).y)),
    ["normalizeReluSum"],
    ["normalize", "relu", "reluGradient", "normalizeRelu"],
  ],
  [
    "the same, the second being read again",
    ({ x, gamma, beta, residual }) => {
      const skipped = relu(batchNorm(residual, gamma, beta).y);
      return add(relu(batchNorm(mul(x, skipped), gamma, beta).y), skipped);
    },
    ["normalizeReluSum", "normalizeRelu"],
    ["normalize", "relu"],
  ],
  [
    "relu of batch norm plus relu of batch norm with another epsilon",
    ({ x, gamma, beta, residual }) =>
      add(relu(batchNorm(x, gamma, beta).y), relu(batchNorm(residual, gamma, beta, { epsilon: 0.1 }).y)),
    ["normalizeReluAdd", "normalizeRelu"],
    ["normalize", "relu", "normalizeReluSum"],
  ],
  [
    "relu of a residual plus batch norm",
    ({ x, gamma, beta, residual }) => relu(add(residual, batchNorm(x, gamma, beta).y)),
    ["normalizeAddRelu", "reluGradient"],
    ["normalize", "relu", "add"],
  ],
  [
    "two normalised branches",
    ({ x, gamma, beta, residual }) =>
      relu(add(batchNorm(x, gamma, beta).y, batchNorm(residual, gamma, beta).y)),
    ["normalizeAddRelu", "normalize"],
    ["relu"],
  ],
  [
    "relu of running moments' normalisation",
    ({ x, gamma, beta, residual }) =>
      mul(relu(batchNormEval(x, x.graph.input("running", [1, 6, 2]), gamma, beta)), residual),
    ["normalizeRelu"],
    ["normalize", "relu", "reluGradient"],
  ],
];

for (const [name, build, present, absent] of chains)
  test(`${name} is fused, and computes the same`, async () => {
    const found = kernels(build);
    for (const kernel of present) assert.ok(found.includes(kernel), `${kernel} in ${found.join(" ")}`);
    for (const kernel of absent) assert.not.ok(found.includes(kernel), `${kernel} in ${found.join(" ")}`);
    const [fused, base] = [await run(build, {}), await run(build, { fuse: false })];
    for (const [key, expected] of Object.entries(base)) {
      const scale = Math.max(...expected.map(Math.abs));
      for (const [i, value] of expected.entries())
        assert.ok(
          Math.abs(fused[key][i] - value) <= 4e-6 * scale,
          `${key}[${i}]: ${fused[key][i]}, ${value}`,
        );
    }
  });

test("what something else reads stays", () => {
  const twice = kernels(({ x, gamma, beta }) => {
    const { y } = batchNorm(x, gamma, beta);
    return add(relu(y), y);
  });
  assert.ok(twice.includes("normalize") && twice.includes("relu") && twice.includes("reluGradient"));
  const both = kernels(({ x, gamma, beta, residual }) => {
    const y = relu(batchNorm(x, gamma, beta).y);
    return mul(add(y, residual), y);
  });
  assert.ok(both.includes("normalizeRelu") && both.includes("add"));
  assert.not.ok(both.includes("normalizeReluAdd") || both.includes("reluGradient"));
});

test("a ReLU's gradient that a normalisation with another epsilon takes stays", () => {
  const names = (epsilon: number) =>
    planOnly((g) => {
      const { x, gamma, beta, residual } = tensors(g);
      const { y, moments } = batchNorm(x, gamma, beta, { epsilon: 1e-5 });
      const open = reluGradient(relu(y), residual);
      const [dx] = normalizeGradient([x, moments, gamma], open, { epsilon, batch: true }, { relu: false });
      return { dx: dx as Value };
    }).layout.steps.map(({ spec }) => spec.kernel);
  assert.ok(names(0.5).includes("reluGradient"));
  assert.not.ok(names(1e-5).includes("reluGradient"));
});

test("an output of the plan stays", () => {
  const plan = planOnly((g) => {
    const { x, gamma, beta } = tensors(g);
    const { y } = batchNorm(x, gamma, beta);
    return { y, z: relu(y) };
  });
  const found = plan.layout.steps.map(({ spec }) => spec.kernel);
  assert.equal(found, ["moments", "normalize", "relu"]);
});

test("a scalar is no residual", () => {
  const found = kernels(({ x, gamma, beta }) =>
    add(relu(batchNorm(x, gamma, beta).y), x.graph.input("scalar", [])),
  );
  assert.ok(found.includes("normalizeRelu") && found.includes("add"));
});

test("a device without a fused kernel computes what stands for it in base ops", async () => {
  const cpu = openDevice("cpu");
  const without = (name: string) => cpu.native.kernels().filter((each) => each !== name);
  const [, build] = chains[0];
  const lacking = { ...cpu, native: { ...cpu.native, kernels: () => without("normalizeRelu") } };
  assert.ok(kernels(build, { device: cpu }).includes("normalizeRelu"));
  const names = kernels(build, { device: lacking });
  assert.ok(!names.includes("normalizeRelu") && names.includes("relu"), names.join(" "));
  assert.equal((await run(build, { device: lacking })).y, (await run(build, { device: cpu })).y);
});

test.run();
