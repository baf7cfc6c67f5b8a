import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeCohort, scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
const data = await makeCohort(join(root, "data"));
const run = join(root, "run");
const resume = ["train", "--out", run, "--resume"];
const argv = ["train", "supervised", "--data", data, "--out", run, "--steps", "4", ...tiny];
const lock = join(run, "lock.json");

test("a folder in which another process trains is left alone", async () => {
  assert.is((await voxgrad(argv, "step 2/4")).status, 130);
  assert.not(existsSync(lock), "a run that has ended leaves no lock");
  const metrics = readFileSync(join(run, "metrics.jsonl"), "utf8");
  for (const host of [hostname(), "elsewhere"]) {
    writeFileSync(lock, JSON.stringify({ process: process.ppid, host }));
    const { status, err } = await voxgrad(resume);
    assert.is(status, 1);
    assert.ok(err.includes(`${lock}: process ${process.ppid} on ${host} trains in this folder`), err);
    assert.ok(existsSync(lock));
    assert.is(readFileSync(join(run, "metrics.jsonl"), "utf8"), metrics);
  }
});

test("the lock of a process that is gone is taken over", async () => {
  for (const left of [JSON.stringify({ process: 2 ** 22 + 1, host: hostname() }), ""]) {
    writeFileSync(lock, left);
    const { status, err } = await voxgrad(resume);
    assert.is(status, 0, err);
    assert.not(existsSync(lock));
  }
});

test("a run holds its lock while it trains", async () => {
  const other = join(root, "held");
  const begun = [...argv.slice(0, 5), other, ...argv.slice(6), "--set", "checkpointEvery=1"];
  const running = voxgrad(begun);
  while (!existsSync(join(other, "metrics.jsonl"))) await new Promise((done) => setTimeout(done, 5));
  const { process: holder } = JSON.parse(readFileSync(join(other, "lock.json"), "utf8")) as {
    process: number;
  };
  assert.is(holder, process.pid);
  assert.is((await running).status, 0);
});

test("files of a run that hold something else are named", async () => {
  const config = readFileSync(join(run, "config.json"));
  for (const text of ["{}", "[1]", "null", '{"recipe":"sdnet","data":"x"}']) {
    writeFileSync(join(run, "config.json"), text);
    const { status, err } = await voxgrad(resume);
    assert.is(status, 1);
    assert.match(err, /config\.json: expected what train wrote, \{ "recipe"/);
  }
  writeFileSync(join(run, "config.json"), String(config).replace('"steps": 4', '"steps": 6'));
  writeFileSync(join(run, "split.json"), '{"labeled":"phantom-000"}');
  const { status, err } = await voxgrad(resume);
  assert.is(status, 1);
  assert.match(err, /split\.json: expected \{ "labeled": \[ids\], .*; labeled: /);
});

test("a window that is upside down is refused before anything is read", async () => {
  const wrong = [
    "train",
    "sdnet",
    "--data",
    data,
    "--out",
    join(root, "window"),
    "--set",
    "window=[240,-160]",
  ];
  const { status, out, err } = await voxgrad(wrong);
  assert.is(status, 2);
  assert.is(out, "");
  assert.match(err, /setting "window": expected \[low, high\] with low below high; found \[240,-160\]/);
});

test.run();
