import type { Case } from "../bench/cases.ts";
import type { Work } from "../bench/machine.ts";
import type { KernelTotal } from "../bench/profile.ts";
import type { StepMemory } from "../bench/memory.ts";
import type { Times } from "../bench/statistics.ts";
import type { StepShape } from "../bench/step.ts";
import type { Score } from "../bench/turns.ts";
import { type Column, formatBytes, formatTable } from "./table.ts";
import { counted } from "../errors.ts";

/** A row of `voxgrad bench` that has been measured. */
export interface Row extends Pick<Case, "list" | "name" | "pass" | "count"> {
  readonly times: Times;
  /** Milliseconds of packing weights, once for all runs until they change; `times` leaves them out. */
  readonly packing?: number;
  readonly work: Work;
  /** Milliseconds at the machine's limit. */
  readonly roof: number;
  /** By the peer's label. */
  readonly peers: Readonly<Record<string, Score>>;
}

const ratio = (score: Score, median: number) =>
  "failure" in score ? undefined : `${(score.times.median / median).toFixed(2)}x`;
/** Milliseconds with three significant digits. */
const brief = (milliseconds: number) =>
  milliseconds >= 100 ? milliseconds.toFixed(0) : milliseconds.toPrecision(3);
const right = (header: string): Column => ({ header, align: "right" });

/** Columns of times, rates and, for each label, the ratio of that peer. */
export function rowTable(rows: readonly Row[], labels: readonly string[]): string {
  const packs = rows.some(({ packing }) => packing !== undefined);
  const columns = ["ms", "p10", "p90", "GFLOP/s", "% of roof", ...(packs ? ["packing"] : []), ...labels].map(
    right,
  );
  return formatTable(
    ["shape", "pass", ...columns],
    rows.map(({ name, pass, times, packing, work, roof: limit, peers }) => [
      name,
      pass,
      ...[times.median, times.p10, times.p90].map(brief),
      gflops(work.flop, times.median).toFixed(0),
      ((100 * limit) / times.median).toFixed(0),
      ...(packs ? [packing && brief(packing)] : []),
      ...labels.map((label) => ratio(peers[label], times.median)),
    ]),
  );
}

const gflops = (flop: number, milliseconds: number) => flop / milliseconds / 1e6;

/** All convolutions of each list that was measured whole, as often as the network has them. */
export function totals(rows: readonly Row[], cases: readonly Case[], labels: readonly string[]): string {
  const whole = [...new Set(rows.map(({ list }) => list))].filter((list) => {
    const size = (each: readonly { list: string }[]) => each.filter((one) => one.list === list).length;
    return size(rows) === size(cases);
  });
  const lines = whole.flatMap((list) =>
    [...new Set(rows.map(({ pass }) => pass))].map((pass) => {
      const own = rows.filter((row) => row.list === list && row.pass === pass);
      const sum = (value: (row: Row) => number) => own.reduce((all, row) => all + row.count * value(row), 0);
      const median = sum(({ times }) => times.median);
      const theirs = labels.map((label) => {
        const total = sum(({ peers }) => {
          const score = peers[label];
          return "failure" in score ? Number.NaN : score.times.median;
        });
        return Number.isNaN(total) ? undefined : `${(total / median).toFixed(2)}x`;
      });
      const rate = gflops(
        sum(({ work }) => work.flop),
        median,
      ).toFixed(0);
      return [list, pass, sum(() => 1).toFixed(0), brief(median), rate, ...theirs];
    }),
  );
  if (lines.length === 0) return "";
  const columns = ["convolutions", "ms", "GFLOP/s", ...labels].map(right);
  return `\n${formatTable(["all of", "pass", ...columns], lines)}`;
}

/** Why peers took no part in rows, each reason once. */
export function failures(rows: readonly Row[]): string[] {
  const counts = new Map<string, number>();
  for (const { peers } of rows)
    for (const [label, score] of Object.entries(peers)) {
      if (!("failure" in score)) continue;
      const text = `${label}: ${score.failure}`;
      counts.set(text, (counts.get(text) ?? 0) + 1);
    }
  return [...counts].map(([text, count]) => `${text} (${counted(count, "row")})`);
}

/** A row with everything that is known about it. */
export function rowAsJson({
  list,
  name,
  pass,
  count,
  times,
  packing,
  work,
  roof: limit,
  peers,
}: Row): unknown {
  const entries = Object.entries(peers).map(([label, score]) => [
    label,
    "failure" in score
      ? score
      : {
          variant: score.variant,
          milliseconds: score.times,
          medians: score.medians,
          ratio: score.times.median / times.median,
        },
  ]);
  return {
    list,
    name,
    pass,
    count,
    milliseconds: times,
    packingMilliseconds: packing,
    gflop: work.flop / 1e9,
    gflopValid: work.validFlop / 1e9,
    bytes: work.bytes,
    gflops: gflops(work.flop, times.median),
    roofMilliseconds: limit,
    roofPercent: (100 * limit) / times.median,
    peers: Object.fromEntries(entries) as unknown,
  };
}

/** Where the time of a step goes, kernel by kernel. */
export function profileTable(totals: readonly KernelTotal[]): string {
  const all = totals.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  return formatTable(
    ["kernel", ...["calls", "ms", "%", "GFLOP/s"].map(right)],
    [
      ...totals,
      {
        kernel: "all",
        calls: totals.reduce((sum, { calls }) => sum + calls, 0),
        milliseconds: all,
        flops: 0,
      },
    ].map(({ kernel, calls, milliseconds, flops }) => [
      kernel,
      calls.toFixed(0),
      brief(milliseconds),
      ((100 * milliseconds) / all).toFixed(1),
      flops === 0 ? undefined : gflops(flops, milliseconds).toFixed(0),
    ]),
  );
}

/** The memory of one step. */
export interface MemoryRow {
  readonly step: StepShape;
  readonly own: StepMemory;
  /** Bytes above idle by the peer's label; undefined where it has no such step. */
  readonly peers: Readonly<Record<string, number | undefined>>;
}

/** What was planned beside what was taken. */
export function memoryTable(rows: readonly MemoryRow[], labels: readonly string[]): string {
  const columns = ["planned", "idle", "at most", "above idle", "of planned", ...labels].map(right);
  return formatTable(
    ["step", ...columns],
    rows.map(({ step, own: { planned, idle, peak }, peers }) => [
      step.name,
      ...[planned, idle, peak, peak - idle].map(formatBytes),
      `${((peak - idle) / planned).toFixed(2)}x`,
      ...labels.map((label) => {
        const theirs = peers[label];
        return theirs && `${formatBytes(theirs)}, ${(theirs / (peak - idle)).toFixed(2)}x`;
      }),
    ]),
  );
}
