/** The precision of convolutions: which device has which, what is stored as bf16, and that a plan says so. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { State } from "../../lib/graph/state.ts";
import { sum } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { batchNorm } from "../../lib/ops/norm.ts";
import { relu } from "../../lib/ops/activation.ts";
import { type Device, openDevice, precisions } from "../../lib/runtime/device.ts";

const cpu = openDevice("cpu");
/** Plans for a device that has the CPU's kernels and every precision: they are made, not loaded. */
const able: Device = { ...cpu, precisions };

const weights = [4, 8].map((channels, i) => new State(`w${i}`, [8, 3, 3, 3, i === 0 ? 1 : channels]));
const [gamma, beta] = ["gamma", "beta"].map((name) => new State(name, [8]));

function trace(graph: Graph) {
  const x = graph.input("x", [1, 4, 4, 4, 1]);
  const hidden = relu(batchNorm(conv3d(x, weights[0], { padding: 1 }), gamma, beta).y);
  const logits = conv3d(hidden, weights[1], { padding: 1 });
  const loss = sum(logits);
  const leaves = weights.map((w) => graph.read(w));
  return { loss, logits, ...Object.fromEntries(gradients(loss, leaves).map((g, i) => [`dw${i}`, g])) };
}

test("the CPU refuses what it has not, and says what it has", async () => {
  for (const precision of ["tf32", "bf16"] as const) {
    const message = await compile(trace, { device: cpu, precision }).then(() => "compiled", String);
    assert.match(message, `device cpu computes in f32, not in ${precision}`);
  }
  assert.throws(
    () => planOnly(trace, { device: able, precision: "f16" as "bf16" }),
    /expected one of f32, tf32, bf16/,
  );
});

test("the plan prints its precision, and convolutions carry it", () => {
  assert.match(planOnly(trace, { device: cpu }).toString(), "precision f32");
  const plan = planOnly(trace, { device: able, precision: "tf32" });
  assert.match(plan.toString(), "precision tf32");
  for (const { op, attributes } of plan.graph.nodes)
    assert.is(attributes.precision, op.startsWith("conv3d") ? 1 : undefined);
});

test.run();
