/** A process whose cuDNN is the library that stands for it; import it before a device is opened. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile, type CompileOptions } from "../../lib/compile/compile.ts";
import type { PlannedStep } from "../../lib/compile/plan.ts";
import { openDevice, type Precision, whyNot } from "../../lib/runtime/device.ts";
import { noCompiler } from "./compiler.ts";
import { buildFakeCudnn } from "./fake_cudnn.ts";
import { feedOfNormalized, type NormalizedConv, traceNormalized } from "./normalized_conv.ts";
import type { SummedConv } from "./summed_conv.ts";

const folder = mkdtempSync(join(tmpdir(), "voxgrad-cudnn-norm-"));
process.env.VOXGRAD_CUDNN = join(folder, "libcudnn.so.9");
process.env.VOXGRAD_TUNING = join(folder, "tuning.json");
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

export const tuningFile = process.env.VOXGRAD_TUNING;
/** Why there is no emulator with it; undefined where there is one. */
export const reason = whyNot("emulator") ?? noCompiler;
if (reason === undefined) buildFakeCudnn(process.env.VOXGRAD_CUDNN);
export const emulator = () => openDevice("emulator");

/** What plans print of steps that cuDNN computes, and of those in which it sums what it stores as well. */
export const usual = "cuDNN 9.15.1";
export const summing = `${usual} with sums`;

/** Of results against the CPU's. */
export const accuracy: Readonly<Record<Precision, number>> = { f32: 2e-6, tf32: 2e-3, bf16: 2 ** -7 };

/** Of slices and of volumes; none of those that are normalised on load. */
export const summedConvs: readonly SummedConv[] = [
  { name: "3x3x3 by a stride", x: [2, 5, 7, 9, 8], w: [12, 3, 3, 3, 8], options: { padding: 1, stride: 2 } },
  { name: "of slices", x: [3, 1, 9, 7, 64], w: [68, 1, 3, 3, 64], options: { padding: [0, 1, 1] } },
  {
    name: "in groups",
    x: [1, 3, 5, 7, 16],
    w: [24, 2, 3, 1, 8],
    options: { groups: 2, dilation: [1, 2, 1] },
  },
];

export interface Chosen {
  readonly kernel: string;
  readonly algorithm: string;
}

export const chosen = ({ layout }: { layout: { steps: readonly PlannedStep[] } }): Chosen[] =>
  layout.steps.map(({ spec: { kernel }, algorithm = "" }) => ({ kernel, algorithm }));

/** The results of a plan of a normalised convolution, and how each step was computed. */
export async function runNormalized(
  each: NormalizedConv,
  bias: boolean,
  options: CompileOptions & { precision: Precision },
) {
  using plan = await compile(traceNormalized(each, options.precision, bias), {
    device: emulator(),
    paranoid: true,
    ...options,
  });
  return { ...(await plan.run(feedOfNormalized(plan.graph.inputs))), steps: chosen(plan) };
}
