import type { Metrics } from "../train/run.ts";
import { lineChart, type Point, type Series } from "./svg.ts";

const titles: Readonly<Record<string, string>> = {
  loss: "Loss",
  dice: "Dice loss of the labelled patches",
  difference: "Loss where the networks disagree",
  unsupervised: "Pseudo-label loss",
  firstIsBetter: "Share of steps in which the first network teaches",
  agreement: "Share of voxels whose pseudo-labels agree",
  unsupervisedWeight: "Weight of the pseudo-label loss",
  learningRate: "Learning rate",
  validationDice: "Dice of the validation cases",
};

/** Smooth by nature, or too sparse to be smoothed. */
const exact = new Set(["learningRate", "unsupervisedWeight", "validationDice"]);

/**
 * Charts of everything that runs logged: `dice.vnet` and `dice.resvnet` share one, and so do several runs. Quantities
 * that never leave 0 have none. Noisy ones are smoothed over a fiftieth of the steps.
 */
export function trainingCharts(
  runs: readonly { readonly name: string; readonly metrics: readonly Metrics[] }[],
): string[] {
  const groups = new Map<string, Series[]>();
  for (const { name: run, metrics } of runs) {
    for (const [quantity, points] of seriesOf(metrics)) {
      const [group, network = ""] = quantity.split(/\.(.*)/s);
      const name = runs.length === 1 ? network : `${run} ${network}`.trim();
      const series = groups.get(group) ?? [];
      groups.set(group, series);
      series.push({ name, points });
    }
  }
  const order = [...Object.keys(titles), ...groups.keys()];
  const sorted = [...groups].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  const steps = Math.max(0, ...runs.map(({ metrics }) => metrics.length));
  return sorted.flatMap(([group, series]) => {
    const shown = series.filter(({ points }) => points.some(([, y]) => y !== 0));
    if (shown.length === 0) return [];
    const smooth = exact.has(group) ? undefined : Math.max(1, Math.round(steps / 50));
    const title = titles[group] ?? group;
    return [lineChart({ title, xLabel: "step", yLabel: "", series: shown, smooth })];
  });
}

function seriesOf(metrics: readonly Metrics[]): Map<string, Point[]> {
  const series = new Map<string, Point[]>();
  for (const { step, ...values } of metrics) {
    for (const [quantity, value] of Object.entries(values)) {
      const points = series.get(quantity) ?? [];
      series.set(quantity, points);
      points.push([step, value]);
    }
  }
  return series;
}
