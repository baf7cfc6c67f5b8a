/** Every tile of the CUDA kernels behind `aspp` by name, on the emulator; on a GPU the same by the tiles that it takes. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { testDevices } from "./devices.ts";

const root = join(import.meta.dirname, "..", "..");

interface Results {
  rows: { what: string; algorithms: string[]; errors: Record<string, number> }[];
  launches: Record<string, number>;
}

async function results(precision: string, device: string): Promise<Results> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", join(import.meta.dirname, "aspp_by_tile.ts"), precision, device],
    // If it is the emulator, of a device without products of warpgroups, which have a test of their own.
    { cwd: root, env: { ...process.env, VOXGRAD_EMULATOR_CAPABILITY: "8" } },
  );
  return JSON.parse(stdout) as Results;
}

const tiles = [
  "joined GEMM 128x64",
  "joined GEMM 64x32",
  "joined GEMM 64x32 of single numbers",
  "GEMM over voxels 64x64",
  "GEMM over voxels 32x64",
  "GEMM over voxels 16x64",
  "GEMM over voxels 64x64 of single numbers",
  "GEMM over voxels 16x64 of single numbers",
];

for (const device of testDevices)
  for (const [precision, suffix, least, most] of [
    ["f32", "tf32x3", 0, 2e-6],
    ["tf32", "tf32", 2e-5, 2e-3],
  ] as const)
    test(`on ${device}, every tile agrees with the CPU as closely as ${suffix} can`, async () => {
      const found = await results(precision, device);
      if (device === "emulator") expectEveryTile(found, suffix);
      let largest = 0;
      for (const { what, errors } of found.rows)
        for (const [name, error] of Object.entries(errors)) {
          assert.ok(error < most, `${name} of ${what} is off by ${error}`);
          largest = Math.max(largest, error);
        }
      assert.ok(largest >= least, `errors up to ${largest} do not look like ${suffix}`);
    });

function expectEveryTile({ rows, launches }: Results, suffix: string): void {
  const expected = tiles.map((tile) => `${tile}, ${suffix}`).sort();
  assert.equal([...new Set(rows.flatMap(({ algorithms }) => algorithms))].sort(), expected);
  // One for the result and one for the input gradient, one for all weight gradients.
  const count = (of: RegExp) =>
    Object.entries(launches).reduce((all, [name, times]) => all + (of.test(name) ? times : 0), 0);
  assert.is(count(/^joined GEMM/), 2 * rows.length);
  assert.is(count(/^GEMM over voxels/), rows.length);
}

test.run();
