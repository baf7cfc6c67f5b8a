/** Compiles the stand-alone tests of the native core that need nothing else of it, and runs them. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

const root = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "voxgrad-native-"));
test.after(() => rmSync(folder, { recursive: true, force: true }));

function compileProgram(name: string, ...sources: string[]): string {
  const program = join(folder, name);
  const flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program];
  const files = [`test/native/${name}.cc`, ...sources];
  execFileSync(process.env.CXX ?? "g++", [...flags, ...files], { cwd: root, stdio: "pipe" });
  return program;
}

function runProgram(program: string, threads: number): void {
  const env = { ...process.env, VOXGRAD_THREADS: `${threads}` };
  const { status, stdout, stderr } = spawnSync(program, { encoding: "utf8", env, timeout: 60_000 });
  assert.is(status, 0, `${threads} threads: ${stdout}${stderr}`);
}

test("tasks divided among threads each run once, and idle threads take over", () => {
  runProgram(compileProgram("task_shares_test"), 1);
});

test("the pool of threads runs every task, hands on an exception, and may be nested", () => {
  const program = compileProgram("thread_pool_test", "native/core/thread_pool.cc");
  for (const threads of [1, 2, 3, 9]) runProgram(program, threads);
});

test.run();
