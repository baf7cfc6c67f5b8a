import type { Averages, Overlap } from "../metrics/overlap.ts";
import { flare22Table, surfaceTables } from "./evaluate_surface_tables.ts";
import type { Results } from "./evaluate_results.ts";
import { type Column, formatTable } from "./table.ts";
import { counted } from "../errors.ts";

const measures = ["dice", "jaccard", "sensitivity", "specificity", "accuracy", "ravd"] as const;
const headers: readonly string[] = ["Dice", "Jaccard", "sensitivity", "specificity", "accuracy", "RAVD %"];

/** The results as people read them: FLARE22's scores alone where they were asked for, otherwise overlap; then surfaces. */
export function tables(results: Results): string {
  const scores = results.flare22 ? [flare22Table(results)] : overlapTables(results);
  return [...scores, ...surfaceTables(results)].join("\n");
}

function overlapTables(results: Results): string[] {
  const { classes, roiMargin, cases } = results;
  const box =
    roiMargin > 0
      ? `bounding box of the reference + ${counted(roiMargin, "voxel")}`
      : "bounding box of the reference";
  return [
    `whole volume, ${counted(cases.length, "case")}, ${counted(classes, "class")}`,
    caseTable(results, "whole"),
    `region of interest: ${box}`,
    caseTable(results, "roi"),
    "pooled",
    pooledTable(results),
  ];
}

/** The class is named only where there is more than one. */
function withClass(many: boolean, first: string, label: string | number, values: readonly string[]) {
  return many ? [first, String(label), ...values] : [first, ...values];
}

function columns(many: boolean, first: readonly string[]): Column[] {
  const left = many ? [...first, "class"] : first;
  return [
    ...left.map((header): Column => ({ header, align: "left" })),
    ...headers.map((header): Column => ({ header, align: "right" })),
  ];
}

/** Four digits throughout, so that a column of 0 and 1 reads like the others. */
function valuesOf(overlap: Overlap | undefined): string[] {
  return measures.map((name) => {
    const value = overlap?.[name] ?? Number.NaN;
    return Number.isNaN(value) ? "nan" : value.toFixed(4);
  });
}

function caseTable({ cases, summary, classes }: Results, region: "whole" | "roi"): string {
  const many = classes > 2;
  const rows = cases.flatMap(({ pair }, i) =>
    summary[region].cases[i].map((overlap, k) => withClass(many, pair.name, k + 1, valuesOf(overlap))),
  );
  return formatTable(columns(many, ["case"]), rows);
}

function pooledTable({ summary: { whole, roi }, classes }: Results): string {
  const many = classes > 2;
  const rows = [["whole", whole] as const, ["roi", roi] as const].flatMap(
    ([region, { classes: each, mean }]) => {
      const named: [string | number, Averages][] = each.map((averages, k) => [k + 1, averages]);
      if (many) named.push(["mean", mean]);
      return named.flatMap(([label, { perCase, global }]) => [
        withClass(many, `${region}, per case`, label, valuesOf(perCase)),
        withClass(many, `${region}, global`, label, valuesOf(global)),
      ]);
    },
  );
  return formatTable(columns(many, ["region, pooling"]), rows);
}
