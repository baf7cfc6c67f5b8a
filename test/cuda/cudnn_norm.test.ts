/** cuDNN's graphs around a batch norm, by a library that stands for it: a source normalised on load, and sums of what is stored. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { convTranspose3d } from "../../lib/ops/conv.ts";
import { moments } from "../../lib/ops/norm.ts";
import { openDevice, type Precision, precisions } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";
import { feedOfNormalized, normalizedConvs, traceNormalized } from "./normalized_conv.ts";
import { runStep } from "./run_step.ts";
import { expectMoments, feedOfSummed, traceSummed } from "./summed_conv.ts";
import {
  accuracy,
  chosen,
  emulator,
  reason,
  runNormalized,
  summedConvs,
  summing,
  usual,
} from "./with_fake_cudnn.ts";
import { withVariable } from "./with_variable.ts";

if (reason !== undefined) test(`skipped: ${reason}`, () => console.log(`skipped: ${reason}`));

if (reason === undefined) {
  const device = emulator();
  const launchesOf = (name: string) => device.native.launches()[name] ?? 0;

  for (const [number, each] of normalizedConvs.slice(0, 5).entries())
    for (const precision of precisions)
      test(`${each.name}, in ${precision}: cuDNN normalises on load, and sums`, async () => {
        const bias = number % 2 === 1;
        using cpu = await compile(traceNormalized(each, precision, bias), { device: openDevice("cpu") });
        const expected = await cpu.run(feedOfNormalized(cpu.graph.inputs));
        for (const prefer of precision === "f32" ? [usual] : [usual, summing]) {
          const sums = launchesOf("sumOutput");
          const found = await runNormalized(each, bias, { precision, tune: { prefer } });
          const fused = found.steps.filter(({ kernel }) => kernel.startsWith("normalizeReluConv3d"));
          assert.ok(fused.length > 0);
          for (const { kernel, algorithm } of fused)
            if (prefer === usual || kernel.endsWith("Moments"))
              assert.is(algorithm, `${prefer}, ${precision}`);
          // Where cuDNN does not sum what it stores, a pass of its own does.
          assert.is(launchesOf("sumOutput") > sums, prefer === usual);
          for (const name of ["y", "dw", "own"] as const)
            expectClose(found[name], Float64Array.from(expected[name]), accuracy[precision], name);
        }
      });

  const sumsOnly = { tune: { prefer: summing } };
  for (const each of summedConvs)
    for (const precision of ["tf32", "bf16"] as const)
      for (const refused of precision === "bf16" ? ["", "bf16 sums"] : [""])
        test(`${each.name}, in ${precision}: cuDNN sums what it stores${refused && ", but not bf16"}`, () =>
          withVariable("FAKE_CUDNN_REFUSES", refused, async () => {
            // What cuDNN refused once is not asked again.
            const own = { ...each, x: refused === "" ? each.x : each.x.with(2, each.x[2] + 1) };
            using plan = await compile(traceSummed(own, precision), {
              device,
              precision,
              paranoid: true,
              ...sumsOnly,
            });
            const sums = plan.layout.steps.find(({ spec }) => spec.kernel === "conv3dPackedMoments");
            assert.ok(sums);
            assert.is(sums.algorithm, `${summing}, ${precision}`);
            assert.is(sums.spec.output.dtype, precision === "bf16" ? "bf16" : "f32");
            const before = launchesOf("sumOutput");
            const { y, own: found } = await plan.run(feedOfSummed(own, 4, precision));
            expectMoments(found, y as Float32Array, each.w[0], 2e-6);
            assert.is(launchesOf("sumOutput"), before);
          }));

  test("sums of an input gradient with a stride are cuDNN's too", async () => {
    const trace = (g: Graph) => {
      const y = convTranspose3d(g.input("x", [1, 2, 3, 5, 12]), g.input("w", [12, 2, 2, 2, 8]), {
        stride: 2,
      });
      return { y, own: moments(y, { perSample: false, groups: 8 }) };
    };
    using plan = await compile(trace, { device, precision: "tf32", paranoid: true, ...sumsOnly });
    assert.ok(chosen(plan).some(({ algorithm }) => algorithm === `${summing}, tf32`));
    using cpu = await compile(trace, { device: openDevice("cpu") });
    const feed = feedOfNormalized(plan.graph.inputs);
    const [found, expected] = [await plan.run(feed), await cpu.run(feed)];
    for (const name of ["y", "own"] as const)
      expectClose(found[name], Float64Array.from(expected[name]), 2e-6, name);
  });

  test("a recorded plan gives the same bits", async () => {
    const options = { device, precision: "bf16", tune: { prefer: summing } } as const;
    using plan = await compile(traceNormalized(normalizedConvs[0], "bf16"), options);
    const feed = feedOfNormalized(plan.graph.inputs);
    const first = await plan.run(feed);
    for (let again = 0; again < 2; again++) {
      const next = await plan.run(feed);
      for (const name of ["y", "dw", "own"] as const) expectClose(next[name], first[name], 0, name);
    }
    assert.is(plan.recordingState, "recorded");
  });

  test("what is not a number shows", async () => {
    using plan = await compile((g) => ({ y: traceNormalized(normalizedConvs[0])(g).y }), {
      device,
      tune: { prefer: usual },
    });
    assert.ok(chosen(plan).some(({ algorithm }) => algorithm === `${usual}, f32`));
    const feed = feedOfNormalized(plan.graph.inputs);
    feed.x[feed.x.length - 1] = Number.NaN;
    const y = (await plan.run(feed)).y as Float32Array;
    assert.ok(Number.isNaN(y[y.length - 1]));
  });

  test("operands that are not aligned are refused where the source is normalised, and else left to our own kernels", async () => {
    const specs = (trace: (g: Graph) => Record<string, never>, precision: Precision) =>
      planOnly(trace, { device, precision, tune: { prefer: usual } }).layout.steps.map(({ spec }) => spec);
    const fed = (shape: readonly number[], i: number) => Float32Array.from(random(elements(shape), i));
    const normalized = specs(traceNormalized(normalizedConvs[0]) as never, "f32").filter(({ kernel }) =>
      kernel.startsWith("normalizeReluConv3d"),
    );
    for (const spec of normalized)
      try {
        await runStep(
          device,
          spec,
          spec.inputs.map(({ shape }, i) => fed(shape, i)),
          4,
        );
        assert.unreachable(spec.kernel);
      } catch (error) {
        assert.match(String(error), /it takes operands aligned to 16 bytes/);
      }
    const [each] = summedConvs;
    const spec = planOnly(traceSummed(each, "tf32"), { device, precision: "tf32", ...sumsOnly })
      .layout.steps.map((step) => step.spec)
      .find(({ kernel }) => kernel === "conv3dPackedMoments");
    assert.ok(spec);
    const data = spec.inputs.map(({ shape }, i) => fed(shape, i));
    const launches = launchesOf(`${summing}, tf32`);
    const [whole] = await runStep(device, spec, data);
    assert.is(launchesOf(`${summing}, tf32`), launches + 1);
    const [shifted, own] = await runStep(device, spec, data, 4);
    assert.is(launchesOf(`${summing}, tf32`), launches + 1);
    expectClose(new Float32Array(shifted), new Float32Array(whole), 2e-3, "result");
    expectMoments(new Float32Array(own), new Float32Array(shifted), each.w[0]);
  });

  test("every graph was launched in every precision that has it", () => {
    const names = Object.keys(device.native.launches()).filter((name) => name.startsWith(usual));
    const expected = precisions.map((precision) => `${usual}, ${precision}`);
    assert.equal(names.sort(), [...expected, `${summing}, tf32`, `${summing}, bf16`].sort());
  });
}

test.run();
