import { flare22Organs, summarizeFlare22 } from "../metrics/flare22.ts";
import { summarizeSurface, type SurfaceMeans } from "../metrics/surface.ts";
import type { Results } from "./evaluate_results.ts";
import { type Column, formatTable } from "./table.ts";
import { counted } from "../errors.ts";

type Scores = Pick<SurfaceMeans, "nsd" | "elements" | "voxels">;
type Measure = readonly [header: string, of: (scores: Scores) => number];

const elementColumns: readonly Measure[] = [
  ["HD95", ({ elements }) => elements.hd95],
  ["HD", ({ elements }) => elements.hd],
  ["ASD ref to pred", ({ elements }) => elements.asdRefToPred],
  ["ASD pred to ref", ({ elements }) => elements.asdPredToRef],
];

const voxelColumns: readonly Measure[] = [
  ["HD95", ({ voxels }) => voxels.hd95],
  ["HD95 directed", ({ voxels }) => voxels.hd95Directed],
  ["HD", ({ voxels }) => voxels.hd],
  ["ASD ref to pred", ({ voxels }) => voxels.asdRefToPred],
  ["ASD pred to ref", ({ voxels }) => voxels.asdPredToRef],
  ["ASSD", ({ voxels }) => voxels.assd],
  ["ASSD of means", ({ voxels }) => voxels.assdMeanOfMeans],
];

/** Titles and tables of the surface distances; nothing where they were not asked for. */
export function surfaceTables(results: Results): string[] {
  const { surface: settings, cases } = results;
  if (!settings) return [];
  const { tolerance, unit, border } = settings;
  const summary = summarizeSurface(cases.map(({ surface }) => surface));
  const many = results.classes > 2;
  const name = (k: number) => (results.flare22 ? flare22Organs[k].name : String(k + 1));
  const rows: [string, string, Scores][] = cases.flatMap(({ pair, surface }) =>
    surface.map((scores, k): [string, string, Scores] => [pair.name, name(k), scores]),
  );
  if (cases.length > 1)
    for (const [k, means] of summary.classes.entries()) rows.push(["mean", name(k), means]);
  if (many) rows.push(["mean", "mean", summary.mean]);
  const table = (measures: readonly Measure[]) =>
    formatTable(
      [...namesOf(many ? ["case", "class"] : ["case"]), ...valuesOf(measures.map(([header]) => header))],
      rows.map(([first, label, scores]) => [
        ...(many ? [first, label] : [first]),
        ...measures.map(([, of]) => fourDigits(of(scores))),
      ]),
    );
  const nsd: Measure = [`NSD ${tolerance}`, (scores) => scores.nsd];
  return [
    `surface elements, ${unit}; NSD within ${tolerance} ${unit}`,
    table([nsd, ...elementColumns]),
    `surface voxels, ${unit}; border value ${border}`,
    table(voxelColumns),
    ...leftOut(summary.mean.defined, cases.length * (results.classes - 1)),
  ];
}

/** Says how many structures the mean distances are silent about: one that was missed altogether has no distance. */
function leftOut(defined: number, all: number): string[] {
  if (defined === all) return [];
  return [
    `${all - defined} of ${all} structures are not in both maps: their distances are left out of means\n`,
  ];
}

/** DSC and NSD of every organ of every case, and their means. */
export function flare22Table({ cases }: Results): string {
  const { organs, mean } = summarizeFlare22(cases.map(({ flare22 }) => flare22));
  const row = (first: string, organ: string, { dsc, nsd }: { dsc: number; nsd: number }) => [
    first,
    organ,
    fourDigits(dsc),
    fourDigits(nsd),
  ];
  const rows = cases.flatMap(({ pair, flare22 }) =>
    flare22.map((score) => row(pair.name, score.organ, score)),
  );
  if (cases.length > 1) rows.push(...organs.map((means, k) => row("mean", flare22Organs[k].name, means)));
  rows.push(row("mean", "mean", mean));
  const title = `FLARE22, ${counted(cases.length, "case")}`;
  return `${title}\n${formatTable([...namesOf(["case", "organ"]), ...valuesOf(["DSC", "NSD"])], rows)}`;
}

const namesOf = (headers: readonly string[]) => headers.map((header): Column => ({ header, align: "left" }));
const valuesOf = (headers: readonly string[]) =>
  headers.map((header): Column => ({ header, align: "right" }));

const fourDigits = (value: number) => (Number.isNaN(value) ? "nan" : value.toFixed(4));
