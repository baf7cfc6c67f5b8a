import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { asppWork, readAsppShapes } from "../../lib/bench/aspp.ts";
import { convWork, readConvShapes } from "../../lib/bench/conv.ts";
import { findLists, casesOf, stepsOf } from "../../lib/bench/cases.ts";
import { quantile } from "../../lib/bench/statistics.ts";
import { takeTurns } from "../../lib/bench/turns.ts";
import { scratch, voxgrad } from "./harness.ts";

// The bandwidth is measured with an eighth of the memory there is said to be: little of it keeps these tests short.
process.env.VOXGRAD_MEMORY = String(2 ** 27);

const root = scratch();
const never = new AbortController().signal;

function file(name: string, text: string): string {
  const path = join(root, name);
  writeFileSync(path, text);
  return path;
}

interface Document {
  mode: string;
  date: string;
  machine: { threads: number; isa: string; peakGflops: number; copyGBs: number };
  peers: { label: string; version: string }[];
  leftOut: string[];
  failed?: string[];
  rows: {
    name: string;
    pass: string;
    milliseconds: { median: number; p10: number; p90: number; runs: number };
    gflop: number;
    gflopValid: number;
    gflops: number;
    roofPercent: number;
    peers: Record<string, { variant: string; ratio: number; medians: object } | { failure: string }>;
    planned: number;
    peak: number;
    aboveIdle: number;
  }[];
}

function read(path: string): Document {
  return JSON.parse(readFileSync(path, "utf8")) as Document;
}

const tinyConv = file(
  "tiny.txt",
  `# two layers
  plain   x=1x4x4x4x3  out=5 kernel=3 padding=1 count=2   # a comment

  up      x=1x2x2x2x4  out=3 kernel=2 stride=2 kind=transposed
  rated   x=1x1x6x6x2  out=2 kernel=1x3x3 padding=0x2x2 dilation=1x2x2
  grouped x=1x2x2x2x6  out=4 kernel=3 padding=1 groups=2\n`,
);

test("conv: every pass of every shape, with rates and totals", async () => {
  const json = join(root, "conv.json");
  const argv = ["bench", "conv", "--shapes", tinyConv, "--min-time", "0.003", "--json", json];
  const { status, out, err } = await voxgrad(argv);
  assert.is(status, 0, err);
  assert.match(out, /^machine .* GFLOP\/s of multiply-adds, [\d.]+ GB\/s of copying\n/);
  assert.match(out, /\nup +weight gradient +[\d.]+ /);
  assert.match(out, /\ntiny +forward +5 /);
  const { mode, date, machine, rows } = read(json);
  assert.is(mode, "conv");
  assert.ok(Math.abs(Date.parse(date) - Date.now()) < 60_000);
  assert.ok(machine.peakGflops > 1 && machine.copyGBs > 0.1 && machine.threads >= 1);
  assert.is(rows.length, 12);
  for (const { milliseconds, gflops, gflop, roofPercent } of rows) {
    assert.ok(milliseconds.runs >= 9);
    assert.ok(milliseconds.p10 <= milliseconds.median && milliseconds.median <= milliseconds.p90);
    assert.ok(Math.abs(gflops / (gflop / milliseconds.median / 1e-3) - 1) < 1e-9);
    assert.ok(roofPercent > 0);
  }
});

test("a row that the device refuses is named, and the others are measured", async () => {
  const lines = [1, 256, 2].map(
    (extent) => `of-${extent} x=1x${extent}x${extent}x${extent}x3 out=1 kernel=1`,
  );
  const json = join(root, "refused.json");
  const shapes = file("refused.txt", `${lines.join("\n")}\n`);
  const argv = ["bench", "conv", "--shapes", shapes, "--filter", "forward"];
  const { status, out, err } = await voxgrad([...argv, "--min-time", "0.001", "--json", json]);
  assert.is(status, 1, err);
  assert.match(err, /failed: of-256, forward: the plan needs 256.0 MiB and 128.0 MiB are free/);
  assert.match(out, /\nof-2 +forward +[\d.]+ /);
  assert.equal(
    read(json).rows.map(({ name }) => name),
    ["of-1", "of-2"],
  );
  assert.is(read(json).failed?.length, 1);
});

test("operations count taps inside the input apart from all", () => {
  const [plain, up, rated, grouped] = readConvShapes(tinyConv);
  assert.equal(plain.output, [1, 4, 4, 4, 5]);
  assert.equal(up.output, [1, 4, 4, 4, 3]);
  // Along an axis of 4 voxels, 10 of 12 taps are inside; of 6 at rate 2, 14 of 18.
  assert.is(convWork(plain).flop, 2 * 3 * 5 * 12 ** 3);
  assert.is(convWork(plain).validFlop, 2 * 3 * 5 * 10 ** 3);
  assert.is(convWork(up).flop, 2 * 4 * 3 * 8 * 8);
  assert.is(convWork(up).validFlop, convWork(up).flop);
  assert.is(convWork(rated).validFlop, 2 * 2 * 2 * 14 ** 2);
  assert.is(convWork(up).bytes, 4 * (32 + 4 * 8 * 3 + 192));
  assert.is(convWork(grouped).flop, 2 * 3 * 4 * 6 ** 3);
  assert.is(convWork(grouped).bytes, 4 * (8 * 6 + 27 * 4 * 3 + 8 * 4));
});

test("the lists of the package can be read, and V-Net's hold all of its work", async () => {
  for (const mode of ["conv", "aspp", "loss", "step"] as const)
    assert.ok(casesOf(mode, findLists(mode, [])).length > 0);
  assert.is(stepsOf(findLists("memory", [])).length, 5);
  const { out } = await voxgrad(["summary", "vnet", "--patch", "64x64x64", "--batch", "2", "--json"]);
  const { layers } = JSON.parse(out) as { layers: { op: string; flops: number }[] };
  const convolutions = layers.filter(({ op }) => op.startsWith("conv"));
  const shapes = findLists("conv", ["vnet"]).flatMap(readConvShapes);
  const total = shapes.reduce((sum, shape) => sum + shape.count * convWork(shape).flop, 0);
  assert.is(
    shapes.reduce((sum, { count }) => sum + count, 0),
    convolutions.length,
  );
  const summed = convolutions.reduce((sum, { flops }) => sum + flops, 0);
  assert.ok(Math.abs(total / summed - 1) < 0.02, `${total} and ${summed}`);
});

test("loss, step, memory and profile", async () => {
  const loss = file("loss.txt", "loss size=4x6x8 classes=3\n");
  const steps = file("steps.txt", "small patch=16x16x16 base=2\n");
  for (const [mode, shapes, row] of [
    ["loss", loss, /\nloss +loss and gradient +[\d.]+ /],
    ["step", steps, /\nsmall +training step +[\d.]+ /],
    ["profile", steps, /\nsmall\n[^]*\nconv3d[^]*\nall +\d+ +[\d.]+ +100\.0/],
    ["memory", steps, /\nsmall +[\d.]+ [KM]iB +[\d.]+ MiB +[\d.]+ MiB +[\d.]+ [KM]iB +[\d.]+x/],
  ] as const) {
    const json = join(root, `${mode}.json`);
    const argv = ["bench", mode, "--shapes", shapes, "--min-time", "0.001", "--json", json];
    const { status, out, err } = await voxgrad(argv);
    assert.is(status, 0, err);
    assert.match(out, row);
    assert.is(read(json).rows.length, 1);
  }
  const [{ planned, aboveIdle, peak }] = read(join(root, "memory.json")).rows;
  assert.ok(planned > 0 && aboveIdle > 0 && peak > aboveIdle);
});

/** Answers with ever the same times: two variants for forward passes, an error for input gradients, nonsense for others. */
const peer = file(
  "peer.mjs",
  `import { createInterface } from "node:readline";
  const say = (message) => console.log(JSON.stringify(message));
  say({ name: "Fake", version: "1.0", threads: Number(process.argv[3]) });
  for await (const line of createInterface({ input: process.stdin })) {
    const { mode, pass, shape, seconds } = JSON.parse(line);
    if (mode === "memory") say({ times: { only: [1] }, memory: { idle: 1e6, peak: 1e9 } });
    else if (mode !== "conv" || !shape.output || !(seconds > 0)) say({ error: "bad request" });
    else if (pass === "forward") say({ times: { slow: [900, 800, 1000], fast: [500, 500, 500] } });
    else if (pass === "input gradient") say({ unsupported: "no gradients here" });
    else console.log("what?");
  }`,
);
const fake = `fake=${process.execPath} ${peer}`;

test("a peer takes turns; its best variant counts, and what it cannot do is said", async () => {
  const json = join(root, "peers.json");
  const { status, out, err } = await voxgrad([
    ...["bench", "conv", "--shapes", tinyConv, "--filter", "plain", "--min-time", "0.003"],
    ...["--peers", fake, "--json", json],
  ]);
  assert.is(status, 0, err);
  assert.match(out, /\npeer +fake: Fake 1\.0, \d+ threads?\n/);
  assert.match(out, /warning: fake: no gradients here \(1 row\)\n/);
  assert.match(out, /warning: fake: fake answered something else: what\? \(1 row\)\n/);
  assert.not.match(out, /\nall of/);
  const { rows, peers } = read(json);
  assert.is(peers[0].label, "fake");
  const [forward] = rows;
  const score = forward.peers.fake as { variant: string; ratio: number; medians: object };
  assert.is(score.variant, "fast");
  assert.equal(score.medians, { fast: 500, slow: 900 });
  assert.ok(Math.abs(score.ratio * forward.milliseconds.median - 500) < 1e-6);
  assert.match(out, new RegExp(`\\nplain +forward .* ${score.ratio.toFixed(2)}x\\n`));
});

test("aspp: all branches as one op, one by one, and by a peer that knows each by itself", async () => {
  const shapes = file("aspp.txt", "small x=1x1x6x5x3 out=2 rates=1x2x7\n");
  const [shape] = readAsppShapes(shapes);
  assert.equal(shape.output, [1, 1, 6, 5, 8]);
  const [point, ...others] = shape.branches.map((branch) => convWork(branch));
  assert.is(asppWork(shape).flop, point.flop + 3 * others[0].flop);
  assert.is(asppWork(shape).bytes, 4 * (30 * 3 + 30 * 8 + 2 * 3 * (1 + 27)));
  const json = join(root, "aspp.json");
  const { status, out, err } = await voxgrad([
    ...["bench", "aspp", "--shapes", shapes, "--min-time", "0.003", "--peers", fake, "--json", json],
  ]);
  assert.is(status, 0, err);
  assert.match(out, /\nshape +pass .* one by one +fake\n/);
  assert.match(out, /\nsmall +forward +[\d.]+ .*x\n/);
  assert.match(out, /warning: fake: no gradients here \(1 row\)\n/);
  const { rows } = read(json);
  assert.is(rows.length, 3);
  const [{ peers }] = rows;
  assert.ok("ratio" in peers["one by one"] && peers["one by one"].ratio > 0);
  assert.equal("medians" in peers.fake && peers.fake.medians, { "branch by branch": 2000 });
});

test("the memory of a peer stands beside", async () => {
  const steps = file("step.txt", "small patch=16x16x16 base=2\n");
  const { status, out, err } = await voxgrad(["bench", "memory", "--shapes", steps, "--peers", fake]);
  assert.is(status, 0, err);
  assert.match(out, /\nsmall .* 953 MiB, [\d.]+x\n/);
});

test("a peer that cannot be started or has no part is named and left out", async () => {
  const json = join(root, "absent.json");
  const loss = file("loss1.txt", "loss size=2x2x2\n");
  const { status, out, err } = await voxgrad([
    ...["bench", "loss", "--shapes", loss, "--min-time", "0.001", "--json", json],
    ...["--peers", `gone=${join(root, "nothing-here")},mute=${process.execPath} --version,onednn`],
  ]);
  assert.is(status, 0, err);
  assert.match(out, /warning: gone is left out \(spawn .*ENOENT\)/);
  assert.match(out, /warning: mute is left out/);
  assert.match(out, /warning: onednn is left out: it has no part in loss\n/);
  assert.match(out, /\nloss +loss and gradient +[\d.]+ /);
  assert.is(read(json).leftOut.length, 3);
});

test("a wrong list names file and line", async () => {
  const cases: [mode: string, text: string, message: RegExp][] = [
    [
      "conv",
      "a x=1x4x4x4x3 out=5 kernel=3\nb x=1x4x4x4 out=5 kernel=3\n",
      /line 2: x: expected 5 whole numbers such as/,
    ],
    [
      "conv",
      "# first\n\na x=1x4x4x4x3 out=5 kernal=3\n",
      /line 3: unknown field "kernal"; did you mean kernel\?/,
    ],
    ["conv", "a x=1x4x4x4x3 kernel=3\n", /line 1: out= is missing/],
    ["conv", "a x=1x4x4x4x3 out=5 kernel=9\n", /line 1: the result has no voxel/],
    ["conv", "a x=1x4x4x4x3 out=5 kernel=3x3\n", /line 1: kernel: expected one or 3 whole numbers/],
    ["conv", "a x=1x4x4x4x3 out=0 kernel=3\n", /line 1: out: expected a whole number from 1, found "0"/],
    [
      "conv",
      "a x=1x4x4x4x3 out=4 kernel=3 groups=3\n",
      /line 1: groups=3 must divide the 3 channels of x and the 4 of out/,
    ],
    ["conv", "a x=1x4x4x4x3 out=5 kernel=3 kernel=1\n", /line 1: kernel is given twice/],
    ["conv", "a x=9999x999x999x999x9 out=5 kernel=3\n", /line 1: a tensor of .* is too large/],
    [
      "conv",
      "a x=1x4x4x4x3 out=5 kernel=1\na x=1x4x4x4x3 out=5 kernel=1\n",
      /line 2: a second entry is called a/,
    ],
    ["conv", "# nothing\n", /expected lines of NAME key=value \.\.\., found none/],
    ["loss", "a size=4x4x4 classes=1\n", /line 1: classes: expected a whole number from 2/],
    ["step", "a patch=20x16x16\n", /line 1: patch: extents must be multiples of 16/],
    ["step", "a patch=16x16x16 recipe=sdnet\n", /line 1: networks: recipe sdnet takes 2, found 1/],
    [
      "step",
      "a patch=16x16x16 networks=vnot\n",
      /line 1: networks: expected some of vnet, resvnet, deeplabv3plus, found "vnot"/,
    ],
    ["memory", "a patch=16x16x16 dropout=2\n", /line 1: dropout: expected a number from 0 to below 1/],
  ];
  for (const [mode, text, message] of cases) {
    const path = file("wrong.txt", text);
    const { status, err } = await voxgrad(["bench", mode, "--shapes", path]);
    assert.is(status, 1, text);
    assert.ok(err.includes(path), err);
    assert.match(err, message);
  }
});

test("what cannot be understood is refused before anything is measured", async () => {
  const cases: [argv: string[], message: RegExp][] = [
    [["conv", "--peers", "torch,onedn"], /there is no peer 'onedn', did you mean onednn\?/],
    [["conv", "--peers", "torch,torch"], /torch is named twice/],
    [["conv", "--shapes", "vnett"], /no file vnett, and no list of that name; did you mean vnet\?/],
    [["conv", "--filter", "("], /--filter takes a regular expression/],
    [
      ["conv", "--shapes", tinyConv, "--filter", "nothing"],
      /none of 12 rows matches \/nothing\/; they are 'tiny plain forward'/,
    ],
    [["conv", "--min-time", "0"], /--min-time must be above 0/],
    [["conv", "--threads", "0"], /--threads must be 1 or more/],
    [["convs"], /MODE cannot be 'convs'.*did you mean conv\?/],
  ];
  for (const [argv, message] of cases) {
    const { status, out, err } = await voxgrad(["bench", ...argv]);
    assert.is(status, 2, argv.join(" "));
    assert.match(err, message);
    assert.is(out, "");
  }
});

test("Ctrl-C keeps the rows that are done", async () => {
  const json = join(root, "stopped.json");
  const argv = ["bench", "conv", "--shapes", tinyConv, "--min-time", "0.003", "--json", json];
  const { status, out } = await voxgrad(argv, "machine ");
  assert.is(status, 130);
  assert.ok(existsSync(json));
  assert.equal(read(json).rows, []);
  assert.match(out, /\nshape +pass/);
});

test("turns: rounds are put together, and who fails is out for good", async () => {
  const calls: string[] = [];
  const contender = (name: string, answer: () => Record<string, number[]>) => ({
    name,
    time: () => {
      calls.push(name);
      return Promise.resolve().then(answer);
    },
  });
  let turn = 0;
  const scores = await takeTurns(
    [
      contender("a", () => ({ one: [++turn], two: [10] })),
      contender("b", () => {
        throw new Error("broken");
      }),
    ],
    1,
    never,
  );
  assert.equal(calls, ["a", "b", "a", "a"]);
  assert.equal(scores, [
    { variant: "one", times: { median: 2, p10: 1, p90: 3, runs: 3 }, medians: { one: 2, two: 10 } },
    { failure: "broken" },
  ]);
  assert.equal(
    [0, 0.1, 0.5, 0.9, 1].map((share) => quantile([5, 1, 2, 4, 3], share)),
    [1, 1, 3, 5, 5],
  );
  assert.ok(Number.isNaN(quantile([], 0.5)));
});

test.run();
