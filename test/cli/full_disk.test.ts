import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { lockFile } from "../../lib/train/run_lock.ts";
import { makeCohort, scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
const data = await makeCohort(join(root, "data"));
const settings = ["--data", data, "--steps", "4", ...tiny, "--set", "networks=vnet"];
const main = join(import.meta.dirname, "..", "..", "lib", "cli", "main.ts");

/** A command in a process that can write no file above `kibibytes`: it fails half-way, as on a full disk. */
function onFullDisk(kibibytes: number, argv: readonly string[]) {
  const command = `ulimit -f ${kibibytes} && exec "$0" --import tsx "$@"`;
  return spawnSync("bash", ["-c", command, process.execPath, main, ...argv], {
    encoding: "utf8",
    env: { ...process.env, TSX_DISABLE_CACHE: "1" },
  });
}

test("a disk that fills up costs nothing but the steps since the last checkpoint", async () => {
  const [whole, run] = [join(root, "whole"), join(root, "run")];
  assert.is((await voxgrad(["train", "supervised", "--out", whole, ...settings])).status, 0);
  const start = ["train", "supervised", "--out", run, ...settings];

  const first = onFullDisk(200, start);
  assert.is(first.status, 1, first.stderr);
  assert.match(first.stderr, /best\.safetensors: could not be written: EFBIG/);
  assert.match(
    first.stderr,
    /there is no checkpoint yet; begin again with: voxgrad train --out .*run --resume/,
  );
  assert.equal(readdirSync(run).sort(), ["config.json", "metrics.jsonl", "split.json"]);

  const resume = ["train", "--out", run, "--resume"];
  assert.is((await voxgrad(resume, "step 2/4")).status, 130);
  const saved = readFileSync(join(run, "last.safetensors"));
  const second = onFullDisk(200, resume);
  assert.is(second.status, 1, second.stderr);
  assert.match(second.stderr, /the last checkpoint is kept; continue from it with: voxgrad train --out /);
  assert.ok(readFileSync(join(run, "last.safetensors")).equals(saved));

  assert.is((await voxgrad(resume)).status, 0);
  for (const file of ["last.safetensors", "best.safetensors", "metrics.jsonl"])
    assert.ok(readFileSync(join(whole, file)).equals(readFileSync(join(run, file))), file);
});

test("a run says that it is done or how it goes on though its report cannot be written", async () => {
  const run = join(root, "unreported");
  const start = ["train", "supervised", "--out", run, ...settings];
  const stopped = await voxgrad(start, "step 2/4");
  assert.is(stopped.status, 130);
  rmSync(join(run, "report.html"));
  mkdirSync(join(run, "report.html"));
  const { status, out, err } = await voxgrad(["train", "--out", run, "--resume"]);
  assert.is(status, 1);
  assert.match(out, /done {6}4 steps; /);
  assert.not.match(out, /\nreport /);
  assert.match(err, /report\.html: could not be written/);
});

test("a lock that cannot be removed does not hide why a run ended", async () => {
  const path = join(root, "lock.json");
  const unlock = await lockFile(path);
  rmSync(path);
  mkdirSync(path);
  await unlock();
  assert.ok(existsSync(path));
});

test.run();
