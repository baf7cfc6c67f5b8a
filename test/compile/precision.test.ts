/** The precision of convolutions: which device has which, what is stored as bf16, and that a plan says so. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { State } from "../../lib/graph/state.ts";
import { mul, sum } from "../../lib/ops/arithmetic.ts";
import { aspp } from "../../lib/ops/aspp.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { batchNorm } from "../../lib/ops/norm.ts";
import { relu } from "../../lib/ops/activation.ts";
import { type Device, openDevice, type Precision, precisions, whyNot } from "../../lib/runtime/device.ts";

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

test("atrous convolutions side by side carry it as well, and read what lies in memory as bf16", () => {
  const sideBySide = (graph: Graph) => {
    const own = [1, 3].map((size) => graph.input(`of${size}`, [8, 1, size, size, 8]));
    const x = graph.input("x", [1, 1, 6, 6, 8]);
    const y = aspp(x, own, { dilations: [1, 2] });
    const same = conv3d(y, graph.input("w", [8, 1, 1, 1, 16]));
    const [dx, ...dw] = gradients(sum(mul(same, same)), [x, ...own]);
    return { same, dx, first: dw[0], second: dw[1] };
  };
  const cases: [Precision, string, Device][] = [["tf32", "f32", able]];
  // Where bf16 weights are packed, only a device's own kernels know how.
  if (whyNot("emulator") === undefined) cases.push(["bf16", "bf16", openDevice("emulator")]);
  for (const [precision, stored, device] of cases) {
    const { graph } = planOnly(sideBySide, { device, precision });
    const nodes = graph.nodes.filter(({ op }) => op === "asppPacked" || op === "asppWeightGradient");
    assert.equal(nodes.map(({ op }) => op).sort(), [
      "asppPacked",
      "asppPacked",
      "asppWeightGradient",
      "asppWeightGradient",
    ]);
    for (const node of nodes) {
      assert.is(node.attributes.precision, precisions.indexOf(precision));
      assert.equal([...new Set(node.inputs.map(({ dtype }) => dtype))], [stored]);
    }
    const [forward] = nodes.filter((node) => node.op === "asppPacked" && node.shape[4] === 16);
    assert.is(forward.dtype, stored, "what a convolution reads is stored as it reads it");
  }
});

test.run();
