/** What a running command takes, looked at once. */
export interface Sample {
  /** Since the command was started. */
  readonly seconds: number;
  /** MiB of the memory that is watched. */
  readonly memory: number;
  /** Percent of all processors, whoever uses them. */
  readonly cpu: number;
  /** Percent of all processors that the command's processes use. */
  readonly ownCpu: number;
}

/** Seconds between the samples of FLARE22. */
export const SAMPLE_SECONDS = 0.1;

/** The efficiency of one run in the measures of FLARE22 (Ma et al. 2024). */
export interface Efficiency {
  /** Running time. */
  readonly seconds: number;
  readonly samples: number;
  readonly memory: {
    /** MiB, the largest value of more than 2 % of the samples: what the challenge reports as the maximum. */
    readonly maximum: number;
    /** MiB, the largest value of all samples. */
    readonly peak: number;
    /** MiB s, the sum of the samples times 0.1 s. */
    readonly area: number;
  };
  readonly cpu: CpuUse;
  /** The same for the processes of the command alone. */
  readonly ownCpu: CpuUse;
}

export interface CpuUse {
  /** Percent of all processors. */
  readonly peak: number;
  /** Percent s, the sum of the samples times 0.1 s. */
  readonly area: number;
}

/**
 * Sums samples up as the evaluation code of FLARE22 does. There the memory is that of the whole graphics card and the CPU
 * that of the whole machine.
 */
export function efficiency(seconds: number, samples: readonly Sample[]): Efficiency {
  const memory = samples.map((sample) => sample.memory);
  const use = (of: (sample: Sample) => number): CpuUse => ({
    peak: largest(samples.map(of)),
    area: area(samples.map(of)),
  });
  return {
    seconds,
    samples: samples.length,
    memory: { maximum: commonMaximum(memory), peak: largest(memory), area: area(memory) },
    cpu: use(({ cpu }) => cpu),
    ownCpu: use(({ ownCpu }) => ownCpu),
  };
}

const largest = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), 0);
const area = (values: readonly number[]) => SAMPLE_SECONDS * values.reduce((sum, value) => sum + value, 0);

/**
 * The largest value, in whole MiB, that more than 2 % of the samples have. Where memory never rests on one, which the
 * challenge does not provide for, the value that 2 % of the samples exceed.
 */
function commonMaximum(memory: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of memory) counts.set(Math.round(value), (counts.get(Math.round(value)) ?? 0) + 1);
  const common = [...counts].filter(([, count]) => count > 0.02 * memory.length).map(([value]) => value);
  if (common.length > 0) return largest(common);
  const sorted = memory.map(Math.round).sort((a, b) => b - a);
  return sorted[Math.floor(0.02 * memory.length)] ?? 0;
}
