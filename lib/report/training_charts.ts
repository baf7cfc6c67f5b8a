import type { Metrics } from "../train/run.ts";
import { lineChart, type Point, type Series } from "./svg.ts";

const titles: Readonly<Record<string, string>> = {
  loss: "Loss",
  dice: "Dice loss of the labelled patches",
  difference: "Loss where the networks disagree",
  unsupervised: "Pseudo-label loss",
  firstIsBetter: "Share of steps in which the first network teaches",
  unsupervisedWeight: "Weight of the pseudo-label loss",
  learningRate: "Learning rate",
  validationDice: "Dice of the validation cases",
};

/**
 * Charts of everything that a run logged: `dice.vnet` and `dice.resvnet` share one, and series that never leave 0
 * have none. Noisy ones are smoothed over a fiftieth of the steps.
 */
export function trainingCharts(metrics: readonly Metrics[]): string[] {
  const groups = new Map<string, Map<string, Point[]>>();
  for (const { step, ...values } of metrics) {
    for (const [name, value] of Object.entries(values)) {
      const [group, network = titles[name] ?? name] = name.split(/\.(.*)/s);
      const series = groups.get(group) ?? new Map<string, Point[]>();
      groups.set(group, series);
      const points = series.get(network) ?? [];
      series.set(network, points);
      points.push([step, value]);
    }
  }
  const order = [...Object.keys(titles), ...groups.keys()];
  const sorted = [...groups].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  return sorted.flatMap(([group, points]) => {
    const series: Series[] = [...points].map(([name, line]) => ({ name, points: line }));
    if (series.every((line) => line.points.every(([, y]) => y === 0))) return [];
    return [
      lineChart({
        title: titles[group] ?? group,
        xLabel: "step",
        yLabel: "",
        series: points.size === 1 ? [{ ...series[0], name: "" }] : series,
        smooth: isSmooth(group) ? undefined : Math.max(1, Math.round(metrics.length / 50)),
      }),
    ];
  });
}

function isSmooth(group: string): boolean {
  return group === "learningRate" || group === "unsupervisedWeight" || group === "validationDice";
}
