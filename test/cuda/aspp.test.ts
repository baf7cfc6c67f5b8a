/** Every tile of the CUDA kernels behind `aspp` by name, on the emulator; on a GPU the same by the tiles that it takes. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { expectErrors, type Results, resultsOf } from "./by_tile.ts";
import { testDevices } from "./devices.ts";

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
      const found = await resultsOf("aspp_by_tile.ts", precision, device);
      if (device === "emulator") expectEveryTile(found, suffix);
      expectErrors(found, () => most, least);
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
