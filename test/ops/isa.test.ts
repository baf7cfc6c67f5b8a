/** The tests of every op whose kernels are compiled per instruction set, on the other sets that this machine has. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { native } from "../../lib/runtime/native.ts";

const families = [
  "conv",
  "conv_large",
  "conv_normalized",
  "conv_moments",
  "norm",
  "norm_fused",
  "reduce",
  "segmentation",
  "softmax",
];
const own = native().isa();

for (const isa of ["amx", "avx512", "avx2", "portable"].filter((each) => each !== own))
  test(`all of it holds with ${isa} kernels, where the processor has them`, async () => {
    const env = { ...process.env, VOXGRAD_ISA: isa };
    const run = (file: string) =>
      promisify(execFile)(process.execPath, ["--import", "tsx", join(import.meta.dirname, file)], { env });
    for (const family of families) {
      try {
        const { stdout } = await run(`${family}.test.ts`);
        assert.match(stdout, /Passed: +[1-9]/);
      } catch (error) {
        const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
        if (/this processor does not have it/.test(stdout + stderr)) {
          console.log(`skipped: ${isa}, which this processor does not have`);
          return;
        }
        assert.unreachable(`${family} with ${isa}:\n${stdout}${stderr}`);
      }
    }
  });

test.run();
