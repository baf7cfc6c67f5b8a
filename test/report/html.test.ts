import { test } from "uvu";
import * as assert from "uvu/assert";
import { trainingReport } from "../../lib/report/html.ts";
import { sliceTriptych } from "../../lib/report/slices.ts";
import { lineChart } from "../../lib/report/svg.ts";

const hostile = `<img src=x onerror="alert('1')">&`;
const pictures = sliceTriptych({
  image: new Float32Array(64).map((_, i) => i),
  size: [4, 4, 4],
  truth: new Uint8Array(64).fill(1),
  prediction: new Uint8Array(64).fill(2),
});

function sample(): string {
  return trainingReport({
    title: hostile,
    subtitle: hostile,
    facts: [{ label: hostile, value: hostile }],
    summaryTable: { columns: [hostile, "Dice"], rows: [[hostile, 0.5]], caption: hostile },
    charts: [
      lineChart({
        title: hostile,
        xLabel: hostile,
        yLabel: hostile,
        series: [{ name: hostile, points: [[0, 1]] }],
      }),
    ],
    cases: [{ name: hostile, pictures, facts: [{ label: hostile, value: 0.9 }] }],
    classes: [hostile],
    config: { key: hostile },
    footer: hostile,
  });
}

test("is one file: no script, nothing from elsewhere, every text escaped", () => {
  const html = sample();
  assert.not.match(html, /<script|<link|<iframe|url\((?!#)/);
  assert.not.match(html, 'onerror="');
  assert.not.match(html, "<img src=x");
  for (const [, source] of html.matchAll(/(?:src|href)="([^"]*)"/g))
    assert.match(source, /^data:image\/png;base64,/);
  assert.is([...html.matchAll(/<img /g)].length, 3);
  assert.match(html, "default-src 'none'");
});

test("every element that opens closes, in order", () => {
  const open: string[] = [];
  const empty = new Set(["meta", "img"]);
  for (const [, slash, name, rest] of sample().matchAll(/<(\/?)([a-zA-Z][\w]*)([^>]*)>/g)) {
    if (empty.has(name) || rest.endsWith("/")) continue;
    if (slash === "") open.push(name);
    else assert.is(open.pop(), name);
  }
  assert.equal(open, []);
});

test("numbers are aligned, formatted per column, and the best is marked, ties included", () => {
  const html = trainingReport({
    title: "t",
    charts: [],
    cases: [],
    summaryTable: {
      columns: [
        "model",
        { header: "Dice", best: "highest" },
        { header: "HD95", best: "lowest", digits: 1 },
        "parameters",
      ],
      rows: [
        ["vnet", 0.81234, 3.25, 9448866],
        ["resvnet", 0.81233, Number.NaN, 17930354],
        ["mean", 0.5, 2, null],
      ],
    },
  });
  assert.match(
    html,
    '<th scope="row">vnet</th><td class="number"><strong>0.8123</strong></td><td class="number">3.3</td><td class="number">9,448,866</td>',
  );
  assert.match(
    html,
    '<th scope="row">resvnet</th><td class="number"><strong>0.8123</strong></td><td class="number">nan</td>',
  );
  assert.match(html, '<strong>2.0</strong></td><td class="number">-</td>');
});

test("sections without content are left out", () => {
  const html = trainingReport({ title: "bare", charts: [], cases: [] });
  assert.not.match(html, "<section");
  assert.not.match(html, "undefined");
});

test.run();
