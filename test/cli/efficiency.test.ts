import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Efficiency, Sample } from "../../lib/metrics/efficiency.ts";
import { scratch, voxgrad } from "./harness.ts";

const root = scratch();
const json = join(root, "e.json");
const html = join(root, "e.html");
const read = () =>
  JSON.parse(readFileSync(json, "utf8")) as Efficiency & { series: Sample[]; command: string };

/** A shell whose child takes 200 MiB and works for half a second, then rests for one. */
const script =
  "const held = Buffer.alloc(200 * 2 ** 20, 1); const end = Date.now() + 500; while (Date.now() < end); setTimeout(() => held, 1000)";
const work = ["sh", "-c", `"${process.execPath}" -e "$0"; exit 7`, script];

test("a command and its children are watched, and its status is passed on", async () => {
  const { status, err, out } = await voxgrad(["efficiency", "--json", json, "--html", html, "--", ...work]);
  assert.is(status, 7);
  assert.is(out, "");
  assert.match(err, /Efficiency {2}\d+\.\d\d s, \d+ samples, status 7/);
  const { seconds, samples, memory, ownCpu, cpu, series, command } = read();
  assert.match(command, /^sh -c /);
  assert.ok(seconds > 1.5 && seconds < 60, `${seconds} s`);
  assert.ok(Math.abs(samples - 10 * seconds) < 4, `${samples} samples in ${seconds} s`);
  assert.ok(memory.maximum > 200 && memory.maximum < 400, `${memory.maximum} MiB`);
  assert.ok(memory.area > 150 && memory.area < memory.peak * seconds * 1.1, `${memory.area} MiB s`);
  assert.ok(ownCpu.area > 5 && ownCpu.area <= 100 * seconds, `${ownCpu.area} % s`);
  assert.ok(cpu.peak <= 100 && series.every((each) => each.cpu >= 0 && each.ownCpu <= 100));
  // It rests at the end, however busy the machine is.
  const resting = series.slice(-7, -3).map((each) => each.ownCpu);
  assert.ok(Math.max(...resting) < 20, String(resting));
  const page = readFileSync(html, "utf8");
  assert.is(page.match(/<svg/g)?.length, 2);
  assert.match(page, /Processor use/);
});

test("with --gpu memory is that of the card", async () => {
  const fake = join(root, "nvidia-smi");
  writeFileSync(fake, '#!/bin/sh\necho "$@" > "$0.log"\nwhile sleep 0.05; do echo "16384, 14848"; done\n');
  chmodSync(fake, 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${root}:${PATH}`;
  try {
    const { status } = await voxgrad(["efficiency", "--gpu", "3", "--json", json, "--", "sleep", "0.5"]);
    assert.is(status, 0);
  } finally {
    process.env.PATH = PATH;
  }
  assert.is(read().memory.maximum, 1536);
  assert.match(readFileSync(`${fake}.log`, "utf8"), /memory\.total,memory\.free.*--id=3/);
});

test("what cannot be run is named", async () => {
  const nothing = await voxgrad(["efficiency"]);
  assert.is(nothing.status, 2);
  assert.match(nothing.err, /COMMAND is missing/);
  const missing = await voxgrad(["efficiency", "--", "no-such-command"]);
  assert.is(missing.status, 2);
  assert.match(missing.err, /-- COMMAND: no-such-command cannot be run: there is no such program\n/);
  const folder = await voxgrad(["efficiency", "--", root]);
  assert.is(folder.status, 2);
  assert.match(folder.err, /cannot be run: it is no program that may be run\n/);
  const killed = await voxgrad(["efficiency", "--", "sh", "-c", "kill -9 $$"]);
  assert.is(killed.status, 137);
});

test.run();
