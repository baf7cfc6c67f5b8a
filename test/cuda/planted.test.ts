/** Mistakes planted in small kernels: the emulated device shows every one of them, under some order of its threads. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compiler, noCompiler } from "./compiler.ts";

const root = join(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "voxgrad-planted-"));
const sources = [
  ...readdirSync(join(root, "native/emulation"))
    .filter((file) => file.endsWith(".cc"))
    .map((file) => join(root, "native/emulation", file)),
  join(root, "native/core/tensor.cc"),
  join(root, "native/core/thread_pool.cc"),
];

/** A test that runs where there is a compiler. */
function compiled(name: string, run: () => void): void {
  if (noCompiler === undefined) test(name, run);
}
if (noCompiler !== undefined) test(`skipped: ${noCompiler}`, () => undefined);

function build(name: string, source: string, ...flags: string[]): string {
  const program = join(folder, name);
  const planted = join(import.meta.dirname, source);
  if (noCompiler !== undefined) return program;
  const own = ["-std=c++17", "-g1", "-fno-strict-aliasing", "-pthread", "-o", program];
  execFileSync(compiler, [...own, ...flags, ...sources, "-xc++", planted], { stdio: "pipe" });
  return program;
}

function verdicts(program: string, ...mistake: string[]): string[] {
  return ["0", "1", "7"].map((schedule) => {
    const env = {
      ...process.env,
      VOXGRAD_SCHEDULE: schedule,
      VOXGRAD_THREADS: "1",
      ASAN_OPTIONS: "detect_stack_use_after_return=0:detect_leaks=0",
    };
    const { stdout, stderr, status } = spawnSync(program, mistake, { encoding: "utf8", env });
    return status === 0 ? stdout.trim() : stderr;
  });
}

const program = build("planted", "planted.cu", "-O1");
const streams = build("streams", "planted_streams.cu", "-O1");

for (const fine of ["none", "none-async", "none-ahead", "none-product", "none-written", "none-grid"])
  compiled(`without a mistake (${fine}) every order is right`, () => {
    assert.equal(verdicts(program, fine), ["right", "right", "right"]);
  });

const wrong = [
  "no-barrier",
  "no-grid-barrier",
  "no-wait",
  "early-refill",
  "ahead",
  "unwritten",
  "unpublished",
  "no-copy-wait",
  "no-product-wait",
  "early-copy",
  "unswizzled",
];
for (const mistake of wrong)
  compiled(`${mistake}: a wrong result`, () => {
    const found = verdicts(program, mistake);
    assert.ok(found.includes("wrong"), found.join(", "));
  });

compiled("threads at different barriers, and a shuffle from a lane that is elsewhere, are named", () => {
  for (const found of verdicts(program, "divided-barrier"))
    assert.match(found, /different __syncthreads \(block 0,0,0, thread/);
  for (const found of verdicts(program, "lone-shuffle"))
    assert.match(found, /shuffle from a lane that does not take part/);
  for (const found of verdicts(program, "no-fence")) assert.match(found, /without a fence in front/);
  for (const found of verdicts(program, "unpublished-barrier"))
    assert.match(found, /at a barrier which nobody has published/);
  for (const found of verdicts(program, "half-group")) assert.match(found, /that the others never reach/);
});

compiled("a barrier of the grid that some blocks never reach, or that is none, is named", () => {
  for (const found of verdicts(program, "divided-grid"))
    assert.match(found, /some blocks never reach a barrier of the grid where others wait/);
  for (const found of verdicts(program, "lone-grid"))
    assert.match(found, /a barrier of the grid in a kernel that was not launched cooperatively \(block/);
});

for (const part of ["uploads", "records"])
  compiled(`streams without a mistake (${part}) are right in every order`, () => {
    assert.equal(verdicts(streams, part, "none"), ["right", "right", "right"]);
  });

for (const mistake of ["overwritten", "early-copy", "late-copy", "no-wait"])
  compiled(`${mistake}: a wrong result`, () => {
    const found = verdicts(streams, "uploads", mistake);
    assert.ok(found.includes("wrong"), found.join(", "));
  });

compiled("what cannot be recorded spoils the recording, and recording does not run", () => {
  for (const mistake of ["allocating", "waiting", "pageable"])
    for (const found of verdicts(streams, "records", mistake)) assert.match(found, /error during capture/);
  assert.equal(verdicts(streams, "records", "not-launched"), ["wrong", "wrong", "wrong"]);
});

compiled("a grid that no device takes, and more shared memory than a device has, are refused", () => {
  const refused = new Array<string>(3).fill("invalid configuration argument");
  assert.equal(verdicts(streams, "uploads", "grid"), refused);
  assert.equal(verdicts(streams, "uploads", "shared"), ["right", "right", "right"]);
  process.env.VOXGRAD_EMULATOR_CAPABILITY = "8";
  assert.equal(verdicts(streams, "uploads", "shared"), refused);
  delete process.env.VOXGRAD_EMULATOR_CAPABILITY;
});

compiled("with AddressSanitizer, a read behind the shared memory is reported, and nothing else", () => {
  const sanitized = build("sanitized", "planted.cu", "-O1", "-fsanitize=address,undefined");
  assert.equal(verdicts(sanitized, "none"), ["right", "right", "right"]);
  for (const found of verdicts(sanitized, "behind-shared")) assert.match(found, /heap-buffer-overflow/);
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
