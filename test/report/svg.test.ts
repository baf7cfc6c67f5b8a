import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { linearAxis, logAxis } from "../../lib/report/axis.ts";
import { type LineChart, lineChart, type Point } from "../../lib/report/svg.ts";

const base = { title: "Loss", xLabel: "step", yLabel: "loss" };

function chart(points: readonly Point[], more: Partial<LineChart> = {}): string {
  const svg = lineChart({ ...base, series: [{ name: "V-Net", points }], ...more });
  assert.not.match(svg, /NaN|Infinity|undefined/);
  return svg;
}

/** The path data of the elements of a class. */
function paths(svg: string, kind: string): string[] {
  return [...svg.matchAll(new RegExp(`<path class="${kind} [^>]* d="([^"]+)"`, "g"))].map(
    (match) => match[1],
  );
}

test("a line goes through its points, up is more", () => {
  const [path] = paths(
    chart(
      [
        [0, 0],
        [1, 1],
        [2, 0.5],
      ],
      { yRange: [0, 1] },
    ),
    "vg-line",
  );
  const points = path
    .slice(1)
    .split("L")
    .map((pair) => pair.split(" ").map(Number));
  assert.is(points.length, 3);
  const [[x0, y0], [x1, y1], [x2, y2]] = points;
  assert.ok(Math.abs(x1 - x0 - (x2 - x1)) < 0.2);
  assert.ok(y1 < y2 && y2 < y0);
  assert.ok(Math.abs(y2 - (y0 + y1) / 2) < 0.2);
});

test("values that are not finite leave a gap, and a point alone becomes a dot", () => {
  const svg = chart([
    [0, 1],
    [1, 2],
    [2, Number.NaN],
    [3, 1],
    [4, Number.POSITIVE_INFINITY],
    [5, 1],
    [6, 2],
  ]);
  assert.is(paths(svg, "vg-line")[0].split("M").length - 1, 2);
  assert.is(svg.match(/<circle[^>]*r="2.5"/g)?.length, 1);
});

test("one point, no point, no series, equal values and nothing but NaN are still charts", () => {
  assert.match(chart([[5, 0.5]]), /V-Net 0.5</);
  assert.match(chart([]), /nothing to show yet/);
  assert.match(
    chart([
      [0, Number.NaN],
      [Number.NaN, 1],
    ]),
    /<svg/,
  );
  assert.match(chart([[0, Number.NaN]], { logY: true }), /nothing to show yet/);
  assert.match(
    chart([
      [0, 3],
      [1, 3],
    ]),
    /V-Net 3</,
  );
  assert.match(
    chart(
      [
        [0, 0],
        [1, 0],
      ],
      { logY: true },
    ),
    /no data/,
  );
  assert.match(chart([], { series: [] }), /nothing to show yet/);
  assert.match(
    chart(
      [
        [0, 1],
        [1, 1e30],
      ],
      { yRange: [0, 2], width: 60, height: 50 },
    ),
    /<svg/,
  );
});

test("whatever the numbers are, the file has only numbers that a browser can read", () => {
  const point = fc.tuple(fc.double(), fc.oneof(fc.double(), fc.double({ min: 0.9999999999, max: 1 })));
  fc.assert(
    fc.property(
      fc.array(point, { maxLength: 6 }),
      fc.boolean(),
      fc.constantFrom(0, 3),
      (points, logY, smooth) => {
        chart(points, { logY, smooth });
      },
    ),
    { seed: 7, numRuns: 300 },
  );
});

test("smoothing draws the raw line behind an average that is smoother", () => {
  const noisy = Array.from({ length: 100 }, (_, i): Point => [i, i % 2]);
  const svg = chart(noisy, { smooth: 10, yRange: [0, 1] });
  const extent = (path: string) => {
    const ys = path
      .slice(1)
      .split("L")
      .map((pair) => Number(pair.split(" ")[1]));
    return Math.max(...ys) - Math.min(...ys);
  };
  assert.ok(extent(paths(svg, "vg-raw")[0]) > 5 * extent(paths(svg, "vg-line")[0]));
  assert.is(paths(chart(noisy), "vg-raw").length, 0);
});

test("long runs are thinned without losing a peak", () => {
  const points = Array.from({ length: 100_000 }, (_, i): Point => [i, i === 54_321 ? 9 : 1]);
  const svg = chart(points, { yRange: [0, 10] });
  assert.ok(svg.length < 60_000, `${svg.length} characters`);
  const ys = paths(svg, "vg-line")[0]
    .slice(1)
    .split("L")
    .map((pair) => Number(pair.split(" ")[1]));
  assert.ok(Math.max(...ys) - Math.min(...ys) > 150);
});

test("labels of lines that end together stand apart", () => {
  const series = Array.from({ length: 9 }, (_, i) => ({
    name: `s${i}`,
    points: [
      [0, i],
      [1, 5],
    ] as Point[],
  }));
  const svg = lineChart({ ...base, series });
  const ys = [...svg.matchAll(/<text class="vg-label[^>]* y="([\d.]+)"/g)].map((match) => Number(match[1]));
  assert.is(ys.length, 9);
  const sorted = ys.toSorted((a, b) => a - b);
  for (let i = 1; i < sorted.length; i++) assert.ok(sorted[i] - sorted[i - 1] > 13.9);
});

test("text is escaped and the element carries no script", () => {
  const svg = chart([[0, 1]], { title: `<script>"&'`, series: [{ name: "a<b\u0000", points: [[0, 1]] }] });
  assert.not.match(svg, "<script");
  assert.match(svg, "&lt;script&gt;&quot;&amp;&#39;");
  assert.match(svg, "a&lt;b\ufffd 1<");
});

test("ticks are round numbers within the range", () => {
  const linear = linearAxis(0, 1, 5);
  assert.equal(linear.ticks.map(linear.format), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
  const steps = linearAxis(1, 20_000, 4);
  assert.equal(steps.ticks.map(steps.format), ["5k", "10k", "15k", "20k"]);
  const negative = linearAxis(-0.3, 0.3, 3);
  assert.equal(negative.ticks.map(negative.format), ["-0.2", "0", "0.2"]);
  const tiny = linearAxis(0, 3e-5, 3);
  assert.equal(tiny.ticks.map(tiny.format), ["0", "1e-5", "2e-5", "3e-5"]);
  const log = logAxis(0.01, 1);
  assert.equal(log.ticks.map(log.format), ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]);
  assert.is(log.position(0.1), 0.5);
  assert.ok(Number.isNaN(log.position(0)));
  assert.ok(logAxis(1e-12, 1).ticks.length >= 4);
  assert.ok(logAxis(3.1, 4.8).ticks.length >= 3);
});

test.run();
