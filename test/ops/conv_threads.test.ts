/** Convolutions in processes of their own: the same bits for every thread count, close values for every instruction set. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { expectClose } from "./harness.ts";

interface Results {
  isa: string;
  threads: number;
  digest: string;
  sample: number[];
}

const fixture = join(import.meta.dirname, "fixtures", "conv_results.ts");
const root = join(import.meta.dirname, "..", "..");

async function results(env: Record<string, string>): Promise<Results> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", fixture], {
    cwd: root,
    env: { ...process.env, ...env },
  });
  return JSON.parse(stdout) as Results;
}

test("the same bits for 1, 2 and 3 threads", async () => {
  const runs: Results[] = [];
  for (const threads of [1, 2, 3]) {
    const run = await results({ VOXGRAD_THREADS: `${threads}` });
    assert.is(run.threads, threads);
    runs.push(run);
  }
  for (const run of runs) assert.is(run.digest, runs[0].digest, `${run.threads} threads differ from 1`);
});

test("every instruction set of this machine computes the same values", async () => {
  const own = await results({ VOXGRAD_ISA: "" });
  const below = ["amx", "avx512", "avx2", "portable"];
  for (const isa of below.slice(below.indexOf(own.isa) + 1)) {
    // A processor that is neither x86 nor wide knows the portable kernels alone.
    const run = await results({ VOXGRAD_ISA: isa });
    assert.is(run.isa, isa);
    expectClose(run.sample, own.sample, 4e-6, `${isa} against ${own.isa}`);
  }
});

test.run();
