/** Which of cuDNN's graphs around a batch norm tuning is offered, by a library that stands for it, and what it makes of them. */
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { describeCudnnGraphs } from "../../lib/cli/cudnn_graphs.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { openDevice, type Precision, precisions } from "../../lib/runtime/device.ts";
import { expectClose } from "../ops/harness.ts";
import {
  feedOfNormalized,
  type NormalizedConv,
  normalizedConvs,
  traceNormalized,
} from "./normalized_conv.ts";
import { feedOfSummed, type SummedConv, traceSummed } from "./summed_conv.ts";
import {
  accuracy,
  chosen,
  type Chosen,
  emulator,
  reason,
  runNormalized,
  summedConvs,
  summing,
  tuningFile,
  usual,
} from "./with_fake_cudnn.ts";
import { withVariable } from "./with_variable.ts";

if (reason !== undefined) test(`skipped: ${reason}`, () => console.log(`skipped: ${reason}`));

interface Entries {
  readonly entries: Record<string, { way: string; milliseconds: number; ways: Record<string, number> }>;
}

/** Of the tuning file; what it changes is written back. */
function editEntries(edit: (key: string, entry: Entries["entries"][string]) => void): void {
  const found = JSON.parse(readFileSync(tuningFile, "utf8")) as Entries;
  for (const [key, entry] of Object.entries(found.entries)) edit(key, entry);
  writeFileSync(tuningFile, JSON.stringify(found));
}

if (reason === undefined) {
  const device = emulator();

  /** The ways of each step that fuses a batch norm. */
  const offered = (trace: (graph: Graph) => object, precision: Precision) =>
    planOnly(trace as (graph: Graph) => Record<string, never>, { device, precision }).layout.steps.flatMap(
      ({ spec }) => (/^normalizeReluConv|Moments$/.test(spec.kernel) ? [device.native.ways(spec)] : []),
    );

  // Of another batch each, since cuDNN is asked about a graph once.
  const batchOf = <T extends SummedConv>(each: T, batch: number): T => ({
    ...each,
    x: each.x.with(0, batch),
  });
  for (const [batch, refused, normalizes, sums] of [
    [3, "", true, true],
    [4, "normalisation", false, true],
    [5, "sums", true, false],
    [6, "plans", false, false],
  ] as const)
    test(`${refused || "nothing"} refused: what cuDNN has no engine for is not offered`, () =>
      withVariable("FAKE_CUDNN_REFUSES", refused, () => {
        for (const precision of precisions) {
          const byCudnn = (name: string) => name.startsWith(usual);
          const [forward, backward] = offered(
            traceNormalized(batchOf(normalizedConvs[1], batch), precision),
            precision,
          ).map((ways) => ways.filter(byCudnn));
          assert.equal(forward, [
            ...(normalizes ? [`${usual}, ${precision}`] : []),
            ...(normalizes && sums && precision !== "f32" ? [`${summing}, ${precision}`] : []),
          ]);
          assert.equal(backward, normalizes ? [`${usual}, ${precision}`] : []);
          const [alone] = offered(traceSummed(batchOf(summedConvs[0], batch), precision), precision);
          assert.equal(alone.filter(byCudnn), [
            `${usual}, ${precision}`,
            ...(sums && precision !== "f32" ? [`${summing}, ${precision}`] : []),
          ]);
        }
        return Promise.resolve();
      }));

  test("channels that cuDNN does not take are left to our own kernels", () => {
    const odd = { ...normalizedConvs[1], w: [18, 3, 3, 3, 16] };
    for (const ways of offered(traceNormalized(odd, "bf16"), "bf16"))
      assert.not.ok(ways.some((name) => name.startsWith(usual)));
  });

  test("an engine that wants more memory than there should be is not taken", () =>
    withVariable("FAKE_CUDNN_WORKSPACE", 2 ** 31, () => {
      for (const ways of offered(traceNormalized(batchOf(normalizedConvs[1], 7)), "f32"))
        assert.not.ok(ways.some((name) => name.startsWith(usual)));
      return Promise.resolve();
    }));

  test("a way that the device has no memory for is warned of, and the others are timed", async () => {
    const warnings: string[] = [];
    const listener = ({ message }: Error) => warnings.push(message);
    process.on("warning", listener);
    const shape = batchOf(summedConvs[0], 8);
    await withVariable("FAKE_CUDNN_WORKSPACE", 2 ** 29, () =>
      withVariable("VOXGRAD_EMULATOR_MEMORY", 2 ** 28, async () =>
        (await compile(traceSummed(shape), { device, tune: "on" })).dispose(),
      ),
    );
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", listener);
    assert.ok(
      warnings.some((line) => line.includes(`${usual}, f32 cannot be timed: the device refused`)),
      warnings.join("\n"),
    );
    let timed = 0;
    editEntries((key, { way, milliseconds, ways }) => {
      if (!key.includes("; conv3d") || !key.includes("f32[8,5,7,9,8]")) return;
      timed++;
      assert.ok(milliseconds > 0 && way in ways && !(`${usual}, f32` in ways), JSON.stringify(ways));
    });
    assert.is(timed, 1);
  });

  test("where cuDNN cannot be recorded, steps are run one by one, and the plan says why", async () => {
    const shape = summedConvs[1];
    const options = { device, precision: "tf32", tune: { prefer: usual } } as const;
    using plan = await compile(traceSummed(shape, "tf32"), options);
    assert.ok(chosen(plan).some(({ algorithm }) => algorithm.startsWith(usual)));
    const results: Float32Array[] = [];
    await withVariable("VOXGRAD_EMULATOR_UNRECORDABLE", "cuDNN", async () => {
      for (let run = 0; run < 3; run++)
        results.push((await plan.run(feedOfSummed(shape, 0, "tf32"))).y as Float32Array);
    });
    assert.match(plan.recordingState, /^cuDNN, convolution: /);
    assert.equal(results[1], results[0]);
    assert.equal(results[2], results[0]);
  });

  test("doctor says which graphs there are", () => {
    const fused = ["convolution", "normalised on load"].flatMap((name) => [name, `${name} with sums`]);
    const all = [...fused, "weight gradient, normalised on load"];
    const inF32 = all.filter((name) => !name.endsWith("with sums"));
    assert.equal(describeCudnnGraphs(device), [
      `f32  ${inF32.join("; ")}`,
      `tf32 ${all.join("; ")}`,
      `bf16 ${all.join("; ")}`,
    ]);
    assert.equal(describeCudnnGraphs(openDevice("cpu")), []);
  });

  test("every way of every step that fuses a batch norm is timed, recorded, and the fastest taken again", async () => {
    const trace = traceNormalized(normalizedConvs[0], "bf16");
    (await compile(trace, { device, precision: "bf16", tune: "on" })).dispose();
    let fused = 0;
    editEntries((key, entry) => {
      if (!key.includes("; normalizeReluConv3d")) return;
      fused++;
      const names = Object.keys(entry.ways);
      assert.ok(names.includes(entry.way) && names.includes(`${usual}, bf16`), names.join());
      assert.is(names.includes(`${summing}, bf16`), key.includes("Moments"));
      entry.way = key.includes("Moments") ? `${summing}, bf16` : `${usual}, bf16`;
    });
    assert.is(fused, 2);
    const steps = chosen(planOnly(trace, { device, precision: "bf16", tune: "cached" }));
    const algorithms = steps.filter(({ kernel }) => kernel.startsWith("normalizeReluConv3d"));
    assert.equal(
      algorithms.map(({ algorithm }) => algorithm),
      [`${summing}, bf16`, `${usual}, bf16`],
    );
  });

  // Our own kernels do not normalise so many channels on load.
  const deep: NormalizedConv = {
    name: "deep",
    x: [1, 3, 5, 6, 64],
    w: [64, 3, 3, 3, 64],
    options: { padding: 1 },
  };
  const fusedOf = (steps: readonly Chosen[]) =>
    steps.filter(({ kernel }) => kernel.startsWith("normalizeRelu"));

  for (const precision of precisions)
    test(`where only cuDNN normalises on load, tuning has it do so, in ${precision}`, async () => {
      using cpu = await compile(traceNormalized(deep, precision), { device: openDevice("cpu") });
      const expected = await cpu.run(feedOfNormalized(cpu.graph.inputs));
      const untuned = planOnly(traceNormalized(deep, precision), { device, precision });
      assert.equal(
        fusedOf(chosen(untuned)).map(({ kernel }) => kernel),
        ["normalizeRelu"],
      );
      for (const prefer of precision === "f32" ? [usual] : [usual, summing]) {
        const found = await runNormalized(deep, false, { precision, tune: { prefer } });
        const names = fusedOf(found.steps).map(({ kernel, algorithm }) => `${kernel}: ${algorithm}`);
        assert.equal(
          names,
          prefer === usual
            ? [
                `normalizeReluConv3dPackedMoments: ${usual}, ${precision}`,
                `normalizeReluConv3dWeightGradient: ${usual}, ${precision}`,
              ]
            : ["normalizeRelu: "],
        );
        for (const name of ["y", "dw", "own"] as const)
          expectClose(found[name], Float64Array.from(expected[name]), accuracy[precision], name);
      }
    });

  test("that is measured, together with the pass that it saves", async () => {
    const trace = traceNormalized({ ...deep, x: [2, 3, 5, 6, 64] }, "bf16");
    (await compile(trace, { device, precision: "bf16", tune: "on" })).dispose();
    for (const [milliseconds, kernels] of [
      [1e-3, ["normalizeReluConv3dPackedMoments", "normalizeReluConv3dWeightGradient"]],
      [1e3, ["normalizeRelu"]],
    ] as const) {
      editEntries((key, entry) => {
        if (/; normalizeReluConv3d.*\[2,3,5,6,64\]/.test(key)) entry.milliseconds = milliseconds;
      });
      for (const tune of ["cached", "on"] as const) {
        using plan = await compile(trace, { device, precision: "bf16", tune });
        assert.equal(
          fusedOf(chosen(plan)).map(({ kernel }) => kernel),
          kernels,
        );
      }
    }
    // What was measured to decide is what the step then goes by.
    const keys: string[] = [];
    editEntries((key) => key.includes("Moments") && key.includes("[2,3,5,6,64]") && keys.push(key));
    assert.is(keys.length, 2, keys.join("\n"));
  });
}

test.run();
