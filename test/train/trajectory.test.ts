/** A frozen ten-step run of SD-Net: its losses are pinned, and its bits do not depend on threads or interruptions. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeSafetensors } from "../../lib/interchange/safetensors.ts";
import type { RunFolder } from "../../lib/train/run.ts";
import { native } from "../../lib/runtime/native.ts";
import { tinyCohort, tinyConfig, stoppedRun, tinyRun } from "./fixtures.ts";

const config = tinyConfig();
const data = await tinyCohort();

function weightsOf(
  run: RunFolder,
  file: "last.safetensors" | "best.safetensors" = "last.safetensors",
): string {
  const path = run.file(file);
  const { tensors } = decodeSafetensors(readFileSync(path), path);
  const hash = [...tensors].map(([name, { data }]) => name + Buffer.from(data.buffer).toString("base64"));
  return hash.join();
}

const whole = await tinyRun(data, "sdnet", config);

test("ten steps follow the recorded losses", async () => {
  // Gentle steps without dropout: instruction sets round differently, and a wild run would magnify it.
  const run = await tinyRun(data, "sdnet", tinyConfig({ learningRate: 0.001, dropout: 0 }));
  const losses = (await run.metrics()).map((line) => [line["loss.vnet"], line["loss.resvnet"]]);
  assert.is(losses.length, 10);
  const recorded = JSON.parse(
    readFileSync(join(import.meta.dirname, "trajectory.json"), "utf8"),
  ) as number[][];
  for (const [step, pair] of losses.entries())
    for (const [network, loss] of pair.entries())
      assert.ok(
        Math.abs(loss - recorded[step][network]) < 1e-2 * recorded[step][network],
        `step ${step + 1}: ${loss}, recorded ${recorded[step][network]}; all: ${JSON.stringify(losses)}`,
      );
});

test("the same run again has the same bits", async () => {
  const again = await tinyRun(data, "sdnet", config);
  assert.ok(weightsOf(again) === weightsOf(whole));
  assert.equal(await again.metrics(), await whole.metrics());
});

for (const stopAt of [1, 4, 7]) {
  test(`stopped at step ${stopAt} and resumed, it ends with the same bits`, async () => {
    const run = await stoppedRun(data, "sdnet", config, stopAt);
    assert.is((await run.metrics()).length, stopAt);
    await tinyRun(data, "sdnet", config, { run, resume: true });
    assert.ok(weightsOf(run) === weightsOf(whole));
    assert.ok(weightsOf(run, "best.safetensors") === weightsOf(whole, "best.safetensors"));
    assert.equal(await run.metrics(), await whole.metrics());
  });
}

test("one, two and three threads give the same bits", () => {
  const digest = (threads: number) => {
    const script = join(import.meta.dirname, "threads_digest.ts");
    const environment = { ...process.env, VOXGRAD_THREADS: String(threads) };
    const child = spawnSync(process.execPath, ["--import", "tsx", script, data], {
      encoding: "utf8",
      env: environment,
    });
    assert.is(child.status, 0, child.stderr);
    return child.stdout;
  };
  const one = digest(1);
  assert.match(one, /^[0-9a-f]{64}$/);
  assert.is(digest(2), one);
  assert.is(digest(3), one);
});

test("training leaves no memory behind", () => {
  assert.equal(native().memory(), { blocks: 0, bytes: 0 });
});

test.run();
