/** The algorithms of convolution against float64, in processes of their own, and the choice between them. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile, planOnly } from "../../lib/compile/compile.ts";
import type { Shape } from "../../lib/graph/value.ts";
import { sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions } from "../../lib/ops/conv.ts";
import { native } from "../../lib/runtime/native.ts";
import { random } from "./harness.ts";

interface Row {
  what: string;
  algorithms: string[];
  errors: Record<string, number>;
}

const fixtures = join(import.meta.dirname, "fixtures");
const root = join(import.meta.dirname, "..", "..");

function start(env: Record<string, string>, fixture = "conv_by_algorithm.ts"): Promise<{ stdout: string }> {
  return promisify(execFile)(process.execPath, ["--import", "tsx", join(fixtures, fixture)], {
    cwd: root,
    env: { ...process.env, ...env },
  });
}

/** What a fixture prints; undefined where the machine lacks the instruction set. */
async function rowsOf<R = Row>(env: Record<string, string>, fixture?: string): Promise<R[] | undefined> {
  try {
    return JSON.parse((await start(env, fixture)).stdout) as R[];
  } catch (error) {
    if (/this processor does not have it/.test(String(error))) return undefined;
    throw error;
  }
}

const instructionSets = { direct: ["", "portable"], winograd: ["", "avx2", "portable"], amx: ["amx"] };

for (const algorithm of ["direct", "winograd", "amx"] as const)
  test(`${algorithm} stays within 1e-5 of float64 over sizes, paddings, dilations, strides and channels`, async () => {
    const names = new Set<string>();
    for (const isa of instructionSets[algorithm]) {
      const rows = await rowsOf({ VOXGRAD_CONV: algorithm, VOXGRAD_ISA: isa });
      if (rows === undefined) {
        console.log(`skipped: ${isa}, which this processor does not have`);
        if (algorithm === "amx") return;
        continue;
      }
      assert.ok(rows.length >= 64);
      for (const { what, algorithms, errors } of rows) {
        assert.is(algorithms.length, 3, what);
        for (const name of algorithms) {
          // The matrix unit takes what has enough channels for it, or may take it.
          if (algorithm === "amx" && name !== "amx") continue;
          names.add(name);
          assert.ok(name.startsWith(algorithm), `${what} runs by ${name}`);
        }
        for (const [name, error] of Object.entries(errors))
          assert.ok(error < 1e-5, `${name} of ${what} is off by ${error} (${algorithm})`);
      }
    }
    const expected = {
      direct: ["direct"],
      amx: ["amx"],
      winograd: [
        "winograd F(1x3x3,3x3x3)",
        "winograd F(1x4x4,3x3x3)",
        "winograd F(1x4x4,3x3x3) stride 2",
        "winograd F(2x2,3x3)",
        "winograd F(2x2x2,3x3x3)",
        "winograd F(3x3,3x3)",
        "winograd F(4,3) along H",
        "winograd F(4,3) along W",
        "winograd F(4x4,3x3)",
        "winograd F(4x4,3x3) stride 2",
        "winograd of whole maps",
      ],
    };
    assert.equal([...names].sort(), expected[algorithm]);
  });

for (const algorithm of ["direct", "winograd"] as const)
  test(`of few channels, ${algorithm}: within 4e-6 of float64; Winograd along W leaves gaps between taps to the direct kernels, along H all but three taps`, async () => {
    for (const isa of instructionSets[algorithm]) {
      const env = { VOXGRAD_CONV: algorithm, VOXGRAD_ISA: isa };
      const rows = await rowsOf<{ what: string; filters: number; algorithm: string; error: number }>(
        env,
        "conv_along_axis.ts",
      );
      if (rows === undefined) {
        console.log(`skipped: ${isa}, which this processor does not have`);
        continue;
      }
      assert.is(rows.length, 33);
      for (const { what, filters, algorithm: name, error } of rows) {
        const alongH = filters <= 4 && /,([89]|\d\d)\] by/.test(what);
        const gaps = alongH ? /dilation 1x2x1/ : /dilation (1x2x1|1x1x2)/;
        const direct = algorithm === "direct" || gaps.test(what) || (alongH && !/by \dx3x\d/.test(what));
        const expected = direct
          ? /^direct$/
          : alongH
            ? /^winograd F\(4,3\) along H$/
            : /^winograd F\(4,[34]\) along W$/;
        // A tile has four rows.
        if (!/^\[1,4,3,21,16\]/.test(what)) assert.match(name, expected, what);
        assert.ok(error < 4e-6, `${what} is off by ${error} (${isa})`);
      }
    }
  });

test("an unknown algorithm is refused by name", async () => {
  const message = await start({ VOXGRAD_CONV: "fft" }).then(() => "ran", String);
  assert.match(message, /VOXGRAD_CONV: expected direct, winograd or amx, found 'fft'/);
});

/** Names of the algorithms of a convolution's forward pass, input gradient and weight gradient, from the printed plan. */
async function printed(
  channels: number,
  [depth, extent]: readonly [depth: number, extent: number],
  options: ConvOptions,
): Promise<string[]> {
  using plan = await compile((graph) => {
    const x = graph.input("x", [1, depth, extent, extent, channels]);
    const w = graph.input("w", [channels, depth === 1 ? 1 : 3, 3, 3, channels / (options.groups ?? 1)]);
    const y = conv3d(x, w, options);
    const [dx, dw] = gradients(sum(y), [x, w]);
    return { y, dx, dw };
  });
  return [...plan.toString().matchAll(/conv3d.* by (.+)$/gm)].map(([, name]) => name);
}

const thrice = (name: string) => [name, name, name];
const usesAmx = native().isa() === "amx";
/** Forward pass and input gradient by the matrix unit, where there is one. */
const tiled = usesAmx ? ["amx", "amx", "direct"] : thrice("direct");

test("the plan prints the choice: Winograd for many channels and tiles, direct for the rest", async () => {
  assert.is(process.env.VOXGRAD_CONV, undefined, "this test needs the choice to be free");
  const volume = "winograd F(2x2x2,3x3x3)";
  const slices = "winograd F(1x4x4,3x3x3)";
  const direct = thrice("direct");
  assert.equal(await printed(32, [16, 16], { padding: 1 }), thrice(slices));
  assert.equal(await printed(64, [10, 10], { padding: 1 }), thrice(volume));
  assert.equal(await printed(2, [16, 16], { padding: 1 }), direct);
  assert.equal(await printed(32, [2, 2], { padding: 1 }), direct);
  assert.equal(await printed(32, [32, 32], { padding: 1, stride: 2 }), thrice(`${slices} stride 2`));
  assert.equal(await printed(64, [4, 4], { padding: 1, stride: 2 }), tiled);
  assert.equal(await printed(32, [16, 16], { padding: 1, stride: 3 }), direct);
  assert.equal(await printed(32, [16, 16], { padding: 2, dilation: 2 }), thrice(slices));
  // Of maps of two and three voxels apiece, one tile each.
  const three = "winograd F(1x3x3,3x3x3)";
  assert.equal(await printed(32, [16, 16], { padding: 6, dilation: 6 }), [three, three, "direct"]);
  assert.equal(await printed(32, [16, 16], { padding: 16, dilation: 16 }), direct);
  assert.equal(await printed(32, [16, 16], { padding: 1, groups: 2 }), direct);
});

test("slices: larger tiles where they fit the map, dilated kernels on interleaved maps", async () => {
  const padding = (reach: number) => [0, reach, reach] as const;
  const four = thrice("winograd F(4x4,3x3)");
  const direct = thrice("direct");
  assert.equal(await printed(64, [1, 32], { padding: padding(1) }), four);
  assert.equal(await printed(128, [1, 32], { padding: padding(2), dilation: [1, 2, 2] }), four);
  const two = "winograd F(2x2,3x3)";
  const three = "winograd F(3x3,3x3)";
  assert.equal(await printed(64, [1, 2], { padding: padding(1) }), [two, two, "direct"]);
  assert.equal(await printed(64, [1, 6], { padding: padding(1) }), [three, three, "direct"]);
  assert.equal(await printed(64, [1, 18], { padding: padding(2), dilation: [1, 2, 2] }), thrice(three));
  assert.equal(await printed(4, [1, 32], { padding: padding(1) }), direct);
  const maps = "winograd of whole maps";
  assert.equal(await printed(64, [1, 32], { padding: padding(18), dilation: [1, 18, 18] }), [
    maps,
    maps,
    "direct",
  ]);
  assert.equal(await printed(64, [1, 32], { padding: padding(32), dilation: [1, 32, 32] }), direct);
  assert.equal(
    await printed(64, [1, 64], { padding: padding(1), stride: [1, 2, 2] }),
    thrice(`${four[0]} stride 2`),
  );
  assert.equal(await printed(64, [1, 8], { padding: padding(1), stride: [1, 2, 2] }), tiled);
  const many = await printed(256, [1, 32], { padding: padding(12), dilation: [1, 12, 12] });
  assert.equal(many, [maps, maps, usesAmx ? "amx" : maps]);
});

test("first layers and stems along W, but for lines of a tile or two; several taps to few channels along H", () => {
  const forward = (x: Shape, w: Shape, options: ConvOptions) => {
    const plan = planOnly((graph) => ({ y: conv3d(graph.input("x", x), graph.input("w", w), options) }));
    return plan.layout.steps.find(({ spec }) => spec.kernel === "conv3dPacked")?.algorithm;
  };
  assert.is(forward([2, 64, 64, 64, 1], [16, 3, 3, 3, 1], { padding: 1 }), "winograd F(4,3) along W");
  assert.is(forward([2, 64, 64, 64, 1], [16, 7, 7, 7, 1], { padding: 3 }), "winograd F(4,4) along W");
  const halved: ConvOptions = { padding: [0, 3, 3], stride: [1, 2, 2] };
  assert.is(forward([4, 1, 256, 256, 3], [64, 1, 7, 7, 3], halved), "winograd F(4,4) along W");
  assert.is(forward([2, 64, 64, 5, 1], [16, 3, 3, 3, 1], { padding: 1 }), "direct");
  const columns = "winograd F(4,3) along H";
  assert.is(forward([2, 64, 64, 64, 16], [1, 3, 3, 3, 16], { padding: 1 }), columns);
  assert.is(forward([1, 40, 40, 40, 32], [3, 3, 3, 3, 32], { padding: 1 }), columns);
  assert.is(forward([1, 40, 40, 40, 32], [3, 5, 5, 5, 32], { padding: 2 }), "direct");
});

test("a product of three parts is as exact as floats are, alone and beside large ones", async () => {
  const channels = 256;
  using plan = await compile((graph) => {
    const x = graph.input("x", [1, 1, 32, 32, channels]);
    return { y: conv3d(x, graph.input("w", [channels, 1, 1, 1, channels])) };
  });
  if (usesAmx) assert.match(plan.toString(), /by amx/);
  // A voxel holds one value, and a filter one weight for each channel: every output is a lone product.
  const values = random(1024, 5).map((value) => Math.fround(value * 2 ** Math.round(40 * value)));
  const weights = random(channels ** 2, 6).map(Math.fround);
  const x = new Float32Array(1024 * channels);
  values.forEach((value, voxel) => {
    x[voxel * channels + (voxel % channels)] = value;
  });
  const { y } = await plan.run({ x, w: Float32Array.from(weights) });
  for (let i = 0; i < y.length; i++) {
    const [voxel, k] = [Math.floor(i / channels), i % channels];
    const product = values[voxel] * weights[k * channels + (voxel % channels)];
    assert.ok(Math.abs(y[i] - product) <= 2 ** -20 * Math.abs(product), `${y[i]} instead of ${product}`);
  }
});

test.run();
