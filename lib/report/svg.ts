import { type Axis, linearAxis, logAxis } from "./axis.ts";
import { movingAverage, type Point, runs, spread, thin } from "./curve.ts";
import { escapeMarkup } from "./escape.ts";
import { LINE_COLOURS } from "./palette.ts";

export type { Point };

export interface Series {
  name: string;
  /** By growing x. Where y is not finite (or not positive on a log axis) the line has a gap. */
  points: readonly Point[];
}

export interface LineChart {
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  /** Pixels; default 640 x 340. The picture scales down with its container. */
  width?: number;
  height?: number;
  /** Default: the finite values with a little air. */
  yRange?: readonly [low: number, high: number];
  logY?: boolean;
  /** Points over which a moving average runs; then the raw line is drawn thin behind it. Default: no smoothing. */
  smooth?: number;
}

const TOP = 44;
const BOTTOM = 46;
const LABEL_GAP = 14;
/** Widest likely character of a label, in pixels, and the share of the width that labels may take. */
const CHARACTER = 7.6;
const MAX_LABEL = 0.4;
/** Beyond this size, sums and ratios of values could overflow: a value there is taken as not finite. */
const LIMIT = 1e100;
const DASHES = ["", "6 3", "2 3"];

/**
 * A line chart as one `<svg>` element that stands alone or inside a page. Colours follow the reader's light or dark
 * setting; a page may override them through `--vg-ink`, `--vg-muted` and `--vg-grid`. Every series is named at its right
 * end, with its last value.
 */
export function lineChart(chart: LineChart): string {
  const { width = 640, height = 340 } = chart;
  const drawable = (y: number) => isDrawable(y) && !(chart.logY && y < 1 / LIMIT);
  const lines = chart.series.map((series, i) => {
    const points = series.points.filter(([x]) => isDrawable(x));
    const shown = chart.smooth && chart.smooth > 1 ? movingAverage(points, chart.smooth, drawable) : points;
    const last = shown.findLast(([, y]) => drawable(y));
    const value = last === undefined ? "(no data)" : formatValue(last[1]);
    const label = `${shorten(series.name, (width * MAX_LABEL) / CHARACTER - value.length - 1)} ${value}`;
    return { raw: shown === points ? undefined : points, shown, last, label, index: i };
  });
  const right = 20 + Math.max(0, ...lines.map((line) => line.label.length)) * CHARACTER;

  const values = chart.series.flatMap((series) => series.points.map(([, y]) => y).filter(drawable));
  const yAxis = makeYAxis(values, chart, height);
  const left = 30 + Math.max(...yAxis.ticks.map((tick) => yAxis.format(tick).length), 1) * 6.5;
  const box = {
    left,
    top: TOP,
    width: Math.max(1, width - left - right),
    height: Math.max(1, height - TOP - BOTTOM),
  };
  const xAxis = makeXAxis(chart.series, box.width);
  const px = (x: number) => box.left + xAxis.position(x) * box.width;
  const py = (y: number) => box.top + (1 - yAxis.position(y)) * box.height;

  const parts = [
    text(left, 22, chart.title, "vg-title"),
    ...gridlines(xAxis, yAxis, box),
    text(box.left + box.width / 2, height - 8, chart.xLabel, "vg-axis", "middle"),
    text(
      0,
      0,
      chart.yLabel,
      "vg-axis",
      "middle",
      `translate(13 ${round(box.top + box.height / 2)}) rotate(-90)`,
    ),
  ];
  const clip = `vg-clip-${hash(JSON.stringify([chart, box]))}`;
  parts.push(
    `<clipPath id="${clip}"><rect x="${round(box.left - 2)}" y="${box.top - 2}" width="${round(box.width + 4)}" height="${box.height + 4}"/></clipPath>`,
    `<g clip-path="url(#${clip})">`,
  );
  for (const line of lines) {
    if (line.raw !== undefined) parts.push(drawLine(line.raw, px, py, line.index, "vg-raw"));
    parts.push(drawLine(line.shown, px, py, line.index, "vg-line"));
  }
  parts.push("</g>");
  const wanted = lines.map(({ last }) =>
    last === undefined ? box.top + box.height : clamp(py(last[1]), box),
  );
  for (const [i, y] of spread(wanted, box.top + 4, box.top + box.height, LABEL_GAP).entries()) {
    const { last, label, index } = lines[i];
    const x = box.left + box.width + 10;
    if (last !== undefined) {
      parts.push(
        `<circle class="vg-dot ${colour(index)}" cx="${round(px(last[0]))}" cy="${round(wanted[i])}" r="3"/>`,
      );
    }
    parts.push(text(x, y + 4, label, `vg-label ${colour(index)}`));
  }
  if (values.length === 0) {
    parts.push(
      text(box.left + box.width / 2, box.top + box.height / 2, "nothing to show yet", "vg-axis", "middle"),
    );
  }
  return [
    `<svg class="vg-chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeMarkup(chart.title)}">`,
    STYLE,
    ...parts,
    "</svg>",
  ].join("\n");
}

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

function makeYAxis(values: readonly number[], { yRange, logY }: LineChart, height: number): Axis {
  let low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  let high = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (values.length === 0) [low, high] = logY ? [0.1, 1] : [0, 1];
  if (yRange !== undefined && yRange[1] > yRange[0] && (!logY || yRange[0] > 0)) {
    [low, high] = yRange;
  } else if (logY) {
    const air = Math.max((high / low) ** 0.05, 1.2);
    [low, high] = [low / air, high * air];
  } else {
    const air = high > low ? (high - low) * 0.05 : Math.max(Math.abs(high) * 0.1, 1e-3);
    // Air must not push a quantity that is never negative below zero.
    [low, high] = [low >= 0 && low < air * 3 ? 0 : low - air, high + air];
  }
  return logY ? logAxis(low, high) : linearAxis(low, high, Math.max(2, height / 60));
}

function makeXAxis(series: readonly Series[], width: number): Axis {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const { points } of series) {
    for (const [x] of points) {
      if (!isDrawable(x)) continue;
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
  }
  if (low > high) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return linearAxis(low, high, Math.max(2, width / 90));
}

function gridlines(xAxis: Axis, yAxis: Axis, box: Box): string[] {
  const bottom = box.top + box.height;
  const parts: string[] = [];
  for (const tick of yAxis.ticks) {
    const y = box.top + (1 - yAxis.position(tick)) * box.height;
    parts.push(
      `<path class="vg-grid" d="M${round(box.left)} ${round(y)}h${round(box.width)}"/>`,
      text(box.left - 7, y + 4, yAxis.format(tick), "vg-tick", "end"),
    );
  }
  for (const tick of xAxis.ticks) {
    const x = box.left + xAxis.position(tick) * box.width;
    parts.push(
      `<path class="vg-base" d="M${round(x)} ${bottom}v5"/>`,
      text(x, bottom + 18, xAxis.format(tick), "vg-tick", "middle"),
    );
  }
  parts.push(`<path class="vg-base" d="M${round(box.left)} ${bottom}h${round(box.width)}"/>`);
  return parts;
}

type Scale = (value: number) => number;

/** One path; a stretch of a single point between two gaps becomes a dot. */
function drawLine(points: readonly Point[], px: Scale, py: Scale, index: number, kind: string): string {
  const dash = DASHES[Math.floor(index / LINE_COLOURS.length) % DASHES.length];
  const dashed = dash === "" ? "" : ` stroke-dasharray="${dash}"`;
  let path = "";
  let dots = "";
  for (const run of runs(points.map(([x, y]) => [px(x), py(y)] as const))) {
    const thinned = thin(run);
    if (thinned.length === 1) {
      dots += `<circle class="vg-dot ${colour(index)}" cx="${round(thinned[0][0])}" cy="${round(thinned[0][1])}" r="2.5"/>`;
    } else {
      path += `M${thinned.map(([x, y]) => `${round(x)} ${round(y)}`).join("L")}`;
    }
  }
  return (path === "" ? "" : `<path class="${kind} ${colour(index)}"${dashed} d="${path}"/>`) + dots;
}

function text(
  x: number,
  y: number,
  body: string,
  kind: string,
  anchor = "start",
  transform?: string,
): string {
  const move = transform === undefined ? "" : ` transform="${transform}"`;
  return `<text class="${kind}" x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${move}>${escapeMarkup(body)}</text>`;
}

function colour(index: number): string {
  return `vg-c${index % LINE_COLOURS.length}`;
}

function isDrawable(value: number): boolean {
  return Math.abs(value) < LIMIT;
}

function clamp(y: number, box: Box): number {
  return Math.min(box.top + box.height, Math.max(box.top, y));
}

function shorten(name: string, length: number): string {
  const characters = [...name];
  return characters.length <= length ? name : `${characters.slice(0, Math.max(1, length - 1)).join("")}…`;
}

function formatValue(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

/** One decimal is a tenth of a pixel; huge coordinates (a spike far outside yRange) are cut off. */
function round(value: number): number {
  return Math.round(Math.min(1e5, Math.max(-1e5, value)) * 10) / 10;
}

/** FNV-1a: charts on one page need clip paths with names of their own, and the same input the same file. */
function hash(body: string): string {
  let state = 0x811c9dc5;
  for (let i = 0; i < body.length; i++) state = Math.imul(state ^ body.charCodeAt(i), 0x01000193);
  return (state >>> 0).toString(36);
}

const lineRules = (shade: "light" | "dark") =>
  LINE_COLOURS.map((pair, i) => `.vg-chart .vg-c${i}{--c:${pair[shade]}}`).join("");

const STYLE = `<style>
.vg-chart{--ink:var(--vg-ink,#1c2330);--muted:var(--vg-muted,#5c6575);--grid:var(--vg-grid,#e3e6ec);max-width:100%;height:auto;font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-size:12px;font-variant-numeric:tabular-nums}
${lineRules("light")}
@media(prefers-color-scheme:dark){.vg-chart{--ink:var(--vg-ink,#e8ebf1);--muted:var(--vg-muted,#9aa4b5);--grid:var(--vg-grid,#2b3240)}${lineRules("dark")}}
.vg-title{fill:var(--ink);font-size:14px;font-weight:600}.vg-axis,.vg-tick{fill:var(--muted)}.vg-tick{font-size:11px}
.vg-grid{stroke:var(--grid);fill:none}.vg-base{stroke:var(--muted);opacity:.6;fill:none}
.vg-line,.vg-raw{fill:none;stroke:var(--c);stroke-linejoin:round;stroke-linecap:round}.vg-line{stroke-width:2}.vg-raw{stroke-width:1;opacity:.35}
.vg-dot{fill:var(--c)}.vg-label{fill:var(--c);font-size:11px;font-weight:600}
</style>`;
