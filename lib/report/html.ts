import { type Cell, formatCells, isNumeric } from "./cells.ts";
import { escapeMarkup } from "./escape.ts";
import { classColour, hex } from "./palette.ts";
import { STYLE } from "./style.ts";

export interface ReportColumn {
  header: string;
  /** Digits after the decimal point; default 4. */
  digits?: number;
  /** Which end of the column is the good one: its best value is set in bold. */
  best?: "highest" | "lowest";
}

export interface ReportTable {
  columns: readonly (string | ReportColumn)[];
  rows: readonly (readonly Cell[])[];
  caption?: string;
}

export interface Fact {
  label: string;
  value: string | number;
}

export interface ReportCase {
  name: string;
  /** PNG data URIs, as `sliceTriptych` makes them. */
  pictures: { image: string; truth?: string; prediction?: string; slice?: number };
  /** Shown beside the name: `Dice 0.87`. */
  facts?: readonly Fact[];
}

export interface TrainingReport {
  title: string;
  subtitle?: string;
  /** A few headline numbers, shown large. */
  facts?: readonly Fact[];
  summaryTable?: ReportTable;
  /** SVG from `lineChart`: markup, taken as it is. */
  charts: readonly string[];
  cases: readonly ReportCase[];
  /** Names of the classes 1, 2, ... for the legend of the pictures. */
  classes?: readonly string[];
  /** Anything that JSON can hold. */
  config?: unknown;
  /** Last line of the page: version, date, how to repeat the run. */
  footer?: string;
}

/** One HTML file that needs nothing else: no script, no network, light and dark. Sections without content are left out. */
export function trainingReport(report: TrainingReport): string {
  const { title, subtitle, facts = [], summaryTable, charts, cases, classes = [], config, footer } = report;
  const body = [
    `<header><h1>${escapeMarkup(title)}</h1>`,
    subtitle === undefined ? "" : `<p class="subtitle">${escapeMarkup(subtitle)}</p>`,
    "</header>",
    facts.length === 0 ? "" : `<dl class="tiles">${facts.map(factMarkup).join("")}</dl>`,
    summaryTable === undefined ? "" : section("Results", tableMarkup(summaryTable)),
    charts.length === 0
      ? ""
      : section(
          "Curves",
          `<div class="charts">${charts.map((svg) => `<figure>${svg}</figure>`).join("\n")}</div>`,
        ),
    cases.length === 0
      ? ""
      : section(
          "Cases",
          `${legend(cases, classes)}<div class="cases">${cases.map(caseMarkup).join("\n")}</div>`,
        ),
    config === undefined
      ? ""
      : section(
          "Configuration",
          `<details><summary>Every setting of this run</summary><pre>${escapeMarkup(JSON.stringify(config, null, 2))}</pre></details>`,
        ),
    footer === undefined ? "" : `<footer>${escapeMarkup(footer)}</footer>`,
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${escapeMarkup(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
${body.filter((part) => part !== "").join("\n")}
</main>
</body>
</html>
`;
}

function section(title: string, content: string): string {
  return `<section><h2>${title}</h2>${content}</section>`;
}

function factMarkup({ label, value }: Fact): string {
  return `<div><dt>${escapeMarkup(label)}</dt><dd>${escapeMarkup(String(value))}</dd></div>`;
}

function tableMarkup({ columns, rows, caption }: ReportTable): string {
  const specs: ReportColumn[] = columns.map((column) =>
    typeof column === "string" ? { header: column } : column,
  );
  const values = specs.map((_, c) => rows.map((row) => row[c]));
  const texts = specs.map((spec, c) => formatCells(values[c], spec.digits));
  // Ties show as ties: what reads the same is marked the same.
  const best = specs.map((spec, c) => texts[c][bestRow(values[c], spec.best)]);
  const classOf = (c: number) => (isNumeric(values[c]) ? ' class="number"' : "");
  const head = specs.map((spec, c) => `<th scope="col"${classOf(c)}>${escapeMarkup(spec.header)}</th>`);
  const bodyRows = rows.map((_, r) => {
    const cells = specs.map((_, c) => {
      const text = escapeMarkup(texts[c][r]);
      if (c === 0) return `<th scope="row"${classOf(c)}>${text}</th>`;
      return `<td${classOf(c)}>${best[c] !== undefined && texts[c][r] === best[c] ? `<strong>${text}</strong>` : text}</td>`;
    });
    return `<tr>${cells.join("")}</tr>`;
  });
  const captionMarkup = caption === undefined ? "" : `<caption>${escapeMarkup(caption)}</caption>`;
  return `<div class="scroll"><table>${captionMarkup}<thead><tr>${head.join("")}</tr></thead><tbody>${bodyRows.join("\n")}</tbody></table></div>`;
}

/** Row of the best number, or -1 where none is to be marked: one row alone is not the best of anything. */
function bestRow(cells: readonly Cell[], best: ReportColumn["best"]): number {
  const numbers = cells.map((cell) => (typeof cell === "number" && Number.isFinite(cell) ? cell : undefined));
  const known = numbers.filter((value) => value !== undefined);
  if (best === undefined || known.length < 2) return -1;
  return numbers.indexOf(best === "highest" ? Math.max(...known) : Math.min(...known));
}

function legend(cases: readonly ReportCase[], classes: readonly string[]): string {
  const chips = classes.map((name, i) => chip(hex(classColour(i + 1)), name));
  const compared = cases.some(
    ({ pictures }) => pictures.truth !== undefined && pictures.prediction !== undefined,
  );
  if (compared) chips.push(chip("#ffffff", "dashed on the prediction: outline of the truth"));
  return chips.length === 0 ? "" : `<ul class="legend">${chips.join("")}</ul>`;
}

function chip(colour: string, name: string): string {
  return `<li><span style="background:${colour}"></span>${escapeMarkup(name)}</li>`;
}

function caseMarkup({ name, pictures, facts = [] }: ReportCase): string {
  const { slice } = pictures;
  const shown = (["image", "truth", "prediction"] as const).map((kind) => {
    const uri = pictures[kind];
    if (uri === undefined) return "";
    const alt = `${kind} of ${name}${slice === undefined ? "" : `, slice ${slice}`}`;
    return `<figure><img src="${escapeMarkup(uri)}" alt="${escapeMarkup(alt)}" loading="lazy"><figcaption>${kind}</figcaption></figure>`;
  });
  const told = slice === undefined ? facts : [...facts, { label: "slice", value: slice }];
  const factsMarkup = told.map(
    ({ label, value }) => `<span>${escapeMarkup(label)} <b>${escapeMarkup(String(value))}</b></span>`,
  );
  return `<article><h3>${escapeMarkup(name)}</h3><p class="facts">${factsMarkup.join("")}</p><div class="triptych">${shown.join("")}</div></article>`;
}
