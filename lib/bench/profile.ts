import type { StepTimes } from "../compile/plan.ts";
import { quantile } from "./statistics.ts";

/** All calls of one kernel in a training step, by one algorithm. */
export interface KernelTotal {
  readonly kernel: string;
  readonly calls: number;
  readonly milliseconds: number;
  readonly flops: number;
}

/** Where the time of a step goes: the medians of its kernel calls, added up by kernel, the longest first. */
export function totalsByKernel(calls: readonly StepTimes[]): KernelTotal[] {
  const totals = new Map<string, KernelTotal>();
  for (const { step, milliseconds } of calls) {
    const { kernel } = step.spec;
    const way = step.algorithm === undefined ? kernel : `${kernel} by ${step.algorithm}`;
    const name = step.spec.attributes.inputGradient === true ? `${way}, input gradient` : way;
    const before = totals.get(name) ?? { kernel: name, calls: 0, milliseconds: 0, flops: 0 };
    totals.set(name, {
      kernel: name,
      calls: before.calls + 1,
      milliseconds: before.milliseconds + quantile(milliseconds, 0.5),
      flops: before.flops + step.flops,
    });
  }
  return [...totals.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}
