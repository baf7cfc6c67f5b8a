import { stripVTControlCharacters } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { duration, Progress } from "../../lib/cli/progress.ts";
import { paint } from "../../lib/cli/style.ts";

function fakeTerminal(columns: number, isTTY = true) {
  const writes: string[] = [];
  return { isTTY, columns, writes, write: (text: string) => writes.push(text) };
}

test("redraws at most ten times a second, and always at the end", () => {
  const terminal = fakeTerminal(120);
  let time = 0;
  const progress = new Progress(terminal, { total: 100, label: "train", now: () => time });
  for (let step = 1; step <= 100; step++) {
    time += 10;
    progress.update(step, "loss 0.5");
  }
  assert.ok(terminal.writes.length >= 9 && terminal.writes.length <= 11, `${terminal.writes.length} redraws`);
  assert.match(
    stripVTControlCharacters(terminal.writes.at(-1) ?? ""),
    /train █{20}100% {2}100\/100 {2}100 steps\/s {2}loss 0.5/,
  );
});

test("a terminal that does not know its width gets the usual line", () => {
  const terminal = fakeTerminal(0);
  new Progress(terminal, { total: 2, label: "train", now: () => 0 }).update(1);
  assert.match(stripVTControlCharacters(terminal.writes.at(-1) ?? ""), /train █{10}░{10} 50% {2}1\/2/);
});

test("rate and time left come from recent steps of this process", () => {
  let time = 0;
  const progress = new Progress(fakeTerminal(120), {
    total: 400,
    label: "train",
    start: 200,
    now: () => time,
  });
  time = 4000;
  progress.update(202);
  assert.match(progress.toString(), / 50% {2}202\/400 {2}2.00 s\/step {2}6 min 36 s left/);
  // Ten times as fast for a long while: the slow start is forgotten.
  for (let step = 203; step <= 399; step++) {
    time += 200;
    progress.update(step);
  }
  assert.match(progress.toString(), / 99% {2}399\/400 {2}5.00 steps\/s {2}0.2 s left/);
});

test("no line is as wide as the terminal", () => {
  const terminal = fakeTerminal(30);
  const progress = new Progress(terminal, {
    total: 10,
    label: "predict a very long case name",
    now: () => 0,
  });
  progress.update(3, "dice 0.91");
  const visible = stripVTControlCharacters(terminal.writes[0]).replace("\r", "");
  assert.is([...visible].length, 29);
  assert.ok(visible.endsWith("…"));
});

test("log lines stand above the progress line, and done takes it away", () => {
  const terminal = fakeTerminal(100);
  const progress = new Progress(terminal, { total: 10, label: "train", now: () => 0 });
  progress.update(1);
  terminal.writes.length = 0;
  progress.log("saved");
  assert.equal(terminal.writes.slice(0, 2), ["\r\x1b[K", "saved\n"]);
  assert.match(terminal.writes[2], "1/10");
  progress.done("finished");
  assert.equal(terminal.writes.slice(3), ["\r\x1b[K", "finished\n"]);
});

test("a stream that is no terminal gets a plain line every 30 seconds", () => {
  const pipe = fakeTerminal(100, false);
  let time = 0;
  const progress = new Progress(pipe, { total: 100, label: "train", now: () => time, firstLine: 2000 });
  for (let step = 1; step <= 100; step++) {
    time += 1000;
    progress.update(step, "loss 0.5");
  }
  assert.equal(pipe.writes, [
    "train  2%  2/100  1.00 steps/s  1 min 38 s left  loss 0.5\n",
    "train 32%  32/100  1.00 steps/s  1 min 08 s left  loss 0.5\n",
    "train 62%  62/100  1.00 steps/s  38 s left  loss 0.5\n",
    "train 92%  92/100  1.00 steps/s  8.0 s left  loss 0.5\n",
  ]);
});

test("what takes less than 30 seconds is quiet but for log lines when the stream is no terminal", () => {
  const pipe = fakeTerminal(100, false);
  const progress = new Progress(pipe, { total: 10, label: "train" });
  progress.update(5);
  progress.log("step 5: dice 0.4");
  progress.update(10);
  progress.done("finished");
  assert.equal(pipe.writes, ["step 5: dice 0.4\n"]);
});

test("durations round up into the next unit and never show 60 seconds", () => {
  const cases: [number, string][] = [
    [0, "0.0 s"],
    [4.24, "4.2 s"],
    [9.96, "10 s"],
    [59.7, "1 min 00 s"],
    [185, "3 min 05 s"],
    [3599.6, "1 h 00 min"],
    [7380, "2 h 03 min"],
    [90000, "1 d 01 h"],
    [Number.NaN, "?"],
    [Number.POSITIVE_INFINITY, "?"],
  ];
  for (const [seconds, text] of cases) assert.is(duration(seconds), text);
});

test("colour only on a terminal, and not against NO_COLOR", () => {
  const before = process.env.NO_COLOR;
  delete process.env.NO_COLOR;
  assert.is(paint(fakeTerminal(80), "red", "x"), "\x1b[31mx\x1b[39m");
  assert.is(paint(fakeTerminal(80, false), "red", "x"), "x");
  process.env.NO_COLOR = "1";
  assert.is(paint(fakeTerminal(80), "red", "x"), "x");
  if (before === undefined) delete process.env.NO_COLOR;
  else process.env.NO_COLOR = before;
});

test.run();
