import { writeAtomically } from "../data/atomic.ts";
import type { Config } from "../train/config.ts";
import type { Metrics } from "../train/run.ts";
import { type ReportCase, type ReportTable, trainingReport } from "./html.ts";
import { classNames } from "./run_report.ts";
import { trainingCharts } from "./training_charts.ts";

export interface Comparison {
  readonly title: string;
  readonly table: ReportTable;
  /** What was compared, with what each logged. */
  readonly runs: readonly { readonly name: string; readonly metrics: readonly Metrics[] }[];
  readonly cases: readonly ReportCase[];
  /** What labels 1, 2, … are called; default: "class 1", … */
  readonly classes?: readonly string[];
  /** Settings that the runs share. */
  readonly config: Config;
  readonly footer?: string;
}

/** Writes one page with the table, the curves of all runs in the same charts, and the cases. */
export async function writeComparison(path: string, comparison: Comparison): Promise<void> {
  const { title, table, runs, cases, config, footer } = comparison;
  const classes = comparison.classes ?? classNames(config.classes);
  const html = trainingReport({
    title,
    subtitle: runs.map(({ name }) => name).join(" against "),
    summaryTable: table,
    charts: trainingCharts(runs),
    cases,
    classes: [...classes],
    config,
    footer,
  });
  await writeAtomically(path, [Buffer.from(html)]);
}
