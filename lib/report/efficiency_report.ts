import { writeAtomically } from "../data/atomic.ts";
import type { Efficiency, Sample } from "../metrics/efficiency.ts";
import { trainingReport } from "./html.ts";
import { lineChart } from "./svg.ts";
import { counted } from "../errors.ts";

export interface EfficiencyReport {
  /** As it was typed. */
  readonly command: string;
  /** What the memory is, in words. */
  readonly memoryOf: string;
  readonly efficiency: Efficiency;
  readonly samples: readonly Sample[];
  readonly footer?: string;
}

/** Writes one page: the measures, and memory and processor use over time. */
export async function writeEfficiencyReport(path: string, report: EfficiencyReport): Promise<void> {
  const { command, memoryOf, efficiency, samples, footer } = report;
  const { seconds, memory, cpu, ownCpu } = efficiency;
  const along = (of: (sample: Sample) => number) => samples.map((each) => [each.seconds, of(each)] as const);
  const html = trainingReport({
    title: "Efficiency of a run",
    subtitle: command,
    facts: [
      { label: "running time, s", value: seconds.toFixed(2) },
      { label: "maximum memory, MiB", value: memory.maximum.toFixed(0) },
      { label: "area under memory, MiB s", value: memory.area.toFixed(0) },
      { label: "area under CPU, % s", value: cpu.area.toFixed(1) },
    ],
    summaryTable: {
      columns: [
        "quantity",
        { header: "largest sample", digits: 1 },
        { header: "area (sum x 0.1 s)", digits: 1 },
      ],
      rows: [
        [`memory, MiB: ${memoryOf}`, memory.peak, memory.area],
        ["CPU, % of all processors: the whole machine", cpu.peak, cpu.area],
        ["CPU, % of all processors: this command", ownCpu.peak, ownCpu.area],
      ],
      caption: `${counted(efficiency.samples, "sample")}, one every 0.1 s. The maximum memory above is the largest value that more than 2 % of the samples have.`,
    },
    charts: [
      lineChart({
        title: `Memory: ${memoryOf}`,
        xLabel: "seconds",
        yLabel: "MiB",
        yRange: [0, Math.max(1, 1.05 * memory.peak)],
        series: [{ name: "MiB", points: along((sample) => sample.memory) }],
      }),
      lineChart({
        title: "Processor use",
        xLabel: "seconds",
        yLabel: "% of all processors",
        yRange: [0, 100],
        series: [
          { name: "machine", points: along((sample) => sample.cpu) },
          { name: "command", points: along((sample) => sample.ownCpu) },
        ],
      }),
    ],
    cases: [],
    footer,
  });
  await writeAtomically(path, [Buffer.from(html)]);
}
