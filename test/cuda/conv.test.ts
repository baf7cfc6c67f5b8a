/** Every tile of the CUDA convolutions by name, on the emulator; on a GPU the same convolutions by the tiles that it takes. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Graph } from "../../lib/graph/graph.ts";
import { elements } from "../../lib/graph/value.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { expectClose, random } from "../ops/harness.ts";
import { runBare } from "../ops/run_bare.ts";
import { expectErrors, type Results, resultsOf } from "./by_tile.ts";
import { kernelDevice, testDevices } from "./devices.ts";

const tiles = [
  "folded halo 224x16",
  "halo 128x64",
  "halo 128x32",
  "halo 128x16",
  "stem 128x16",
  "stem 128x32",
  "implicit GEMM 128x64",
  "implicit GEMM 128x32",
  "implicit GEMM 128x16",
  "implicit GEMM 64x32",
  "implicit GEMM 128x16 of single numbers",
  "implicit GEMM 64x32 of single numbers",
  "halo over voxels 32x288",
  "halo over voxels 16x448",
  "stem over voxels 16x32",
  "stem over voxels 16x64",
  "stem over voxels 16x384",
  "GEMM over voxels 64x64",
  "GEMM over voxels 32x64",
  "GEMM over voxels 16x64",
  "GEMM over voxels 64x64 of single numbers",
  "GEMM over voxels 16x64 of single numbers",
];

const inEveryPrecision = [
  "direct convolution",
  "head input gradient",
  "head over voxels, 4 filters",
  "head over voxels, 8 filters",
  "head over voxels, 16 filters",
];

for (const device of testDevices)
  for (const [precision, suffix, least, most] of [
    ["f32", "tf32x3", 0, 2e-6],
    ["tf32", "tf32", 2e-5, 2e-3],
    ["bf16", "bf16", 2 ** -10, 2 ** -8],
  ] as const)
    test(`on ${device}, every tile agrees with the CPU as closely as ${suffix} can`, async () => {
      const found = await resultsOf("conv_by_tile.ts", precision, device);
      if (device === "emulator") expectEveryTile(found, suffix);
      const exact = (name: string) => name === "moments" || (precision === "bf16" && name !== "stored");
      expectErrors(found, (name) => (exact(name) ? 2e-6 : most), least);
    });

function expectEveryTile({ rows, launches }: Results, suffix: string): void {
  const expected = [...tiles.map((tile) => `${tile}, ${suffix}`), ...inEveryPrecision].sort();
  const found = rows.flatMap(({ algorithms }) => algorithms);
  const inParts = /, depth in (\d+) parts$/;
  assert.equal([...new Set(found.map((name) => name.replace(inParts, "")))].sort(), expected);
  const parts = new Set(found.map((name) => inParts.exec(name)?.[1]));
  assert.ok(parts.size > 3, `depth only in ${[...parts].join()} parts`);
  for (const name of [
    ...expected,
    "packTransposedKernel",
    "addSlabs",
    "addManySlabs",
    "addParts",
    "addPartsAndSum",
    "joinSums",
  ])
    assert.ok(launches[name] > 0, `${name} was never launched`);
}

test("weights as they are, at addresses that are aligned to a number only", async () => {
  const device = kernelDevice.native;
  const graph = new Graph();
  const inputs = [graph.input("x", [1, 4, 3, 5, 8]), graph.input("w", [8, 3, 2, 3, 4])] as const;
  const [x, w] = inputs.map(({ shape }, i) => Float32Array.from(random(elements(shape), i)));
  for (const node of [
    conv3d(inputs[0], graph.input("square", [12, 3, 2, 3, 8]), { padding: 1 }),
    convTranspose3d(inputs[0], inputs[1], { stride: 2, padding: 1 }),
  ]) {
    const weights = node.op === "conv3d" ? Float32Array.from(random(12 * 18 * 8, 3)) : w;
    const expected = await runBare(node, [x, weights]);
    for (const shift of [0, 4])
      expectClose(
        await runBare(node, [x, weights], device, shift),
        Float64Array.from(expected),
        2e-6,
        `${node.op} ${shift} bytes further`,
      );
  }
});

test.run();
