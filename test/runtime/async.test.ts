import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState } from "../../lib/compile/states.ts";
import { State } from "../../lib/graph/state.ts";
import { add } from "../../lib/ops/arithmetic.ts";
import { conv3d } from "../../lib/ops/conv.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const fixtures = join(import.meta.dirname, "fixtures");

/** A plan of many slow convolutions that counts its completed runs in a state. */
async function slowPlan(layers: number) {
  const runs = new State("runs", [1]);
  const weight = new State("weight", [16, 3, 3, 3, 16], { initial: 1 / 432 });
  const plan = await compile((g) => {
    let x = g.input("x", [1, 32, 32, 32, 16]);
    for (let i = 0; i < layers; i++) x = conv3d(x, weight, { padding: 1 });
    g.assign(runs, add(g.read(runs), g.input("one", [1])));
    return { x };
  });
  const feed = { x: new Float32Array(32 ** 3 * 16).fill(0.001), one: Float32Array.of(1) };
  return { plan, runs, weight, feed };
}

const device = openDevice();

test("timers keep firing during a step", async () => {
  const { plan, runs, weight, feed } = await slowPlan(240);
  let ticks = 0;
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    ticks++;
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  const started = performance.now();
  try {
    await plan.run(feed);
  } finally {
    clearInterval(timer);
  }
  const elapsed = performance.now() - started;
  assert.ok(elapsed > 50, `the step took only ${elapsed} ms`);
  assert.ok(ticks >= elapsed / 25, `${ticks} ticks of 5 ms in ${elapsed} ms`);
  assert.ok(longest < 50 + elapsed / 4, `the event loop stood still for ${longest} ms of ${elapsed} ms`);
  plan.dispose();
  disposeStates(device, [runs, weight]);
});

test("an aborted run rejects with the signal's reason and leaves states untouched", async () => {
  const { plan, runs, weight, feed } = await slowPlan(300);
  const controller = new AbortController();
  const running = plan.run(feed, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error("enough")), 10);
  assert.match(await running.then(() => "finished", String), /enough/);
  assert.is((await readState(device, runs))[0], 0);
  await plan.run(feed);
  assert.is((await readState(device, runs))[0], 1);
  plan.dispose();
  disposeStates(device, [runs, weight]);
});

test("runs of one plan are done in order", async () => {
  const { plan, runs, weight, feed } = await slowPlan(2);
  await Promise.all([plan.run(feed), plan.run(feed), plan.run(feed)]);
  assert.is((await readState(device, runs))[0], 3);
  plan.dispose();
  disposeStates(device, [runs, weight]);
});

test("four worker threads compute at once and get the same bits", async () => {
  const results = await Promise.all(
    Array.from({ length: 4 }, () => {
      const worker = new Worker(join(fixtures, "convolve_worker.mjs"));
      return new Promise<string>((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
    }),
  );
  assert.is(new Set(results).size, 1);
  assert.match(results[0], /^[0-9a-f]{64}$/);
});

test("an instruction set that does not exist is an error, not a crash", () => {
  const script =
    'import("./lib/runtime/device.ts").then((m) => m.openDevice().describe()).catch((e) => console.log(e.code, e.message))';
  const child = spawnSync(process.execPath, ["--import", "tsx", "-e", script], {
    cwd: join(import.meta.dirname, "..", ".."),
    encoding: "utf8",
    env: { ...process.env, VOXGRAD_ISA: "mmx" },
  });
  assert.match(
    child.stdout,
    /ERR_DEVICE VOXGRAD_ISA: expected amx, avx512, avx2 or portable, found 'mmx'/,
    child.stderr,
  );
});

for (const how of ["exit", "terminate", "throw"]) {
  test(`the process ends cleanly in the middle of a step (${how})`, () => {
    const child = spawnSync(process.execPath, ["--import", "tsx", join(fixtures, "exit_midstep.ts"), how], {
      encoding: "utf8",
      timeout: 20_000,
    });
    assert.is(child.signal, null, child.stderr);
    assert.is(child.status, how === "throw" ? 1 : 7, child.stderr);
    assert.match(child.stdout, /under way/);
  });
}

test.run();
