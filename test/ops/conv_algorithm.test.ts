/** Both algorithms of convolution against float64, in processes of their own, and the choice between them. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { sum } from "../../lib/ops/arithmetic.ts";
import { conv3d, type ConvOptions } from "../../lib/ops/conv.ts";

interface Row {
  what: string;
  algorithms: string[];
  errors: Record<string, number>;
}

const fixture = join(import.meta.dirname, "fixtures", "conv_by_algorithm.ts");
const root = join(import.meta.dirname, "..", "..");

function start(env: Record<string, string>): Promise<{ stdout: string }> {
  return promisify(execFile)(process.execPath, ["--import", "tsx", fixture], {
    cwd: root,
    env: { ...process.env, ...env },
  });
}

for (const algorithm of ["direct", "winograd"])
  test(`${algorithm} stays within 1e-5 of float64 over sizes, paddings and channels`, async () => {
    for (const isa of ["", "portable"]) {
      const rows = JSON.parse((await start({ VOXGRAD_CONV: algorithm, VOXGRAD_ISA: isa })).stdout) as Row[];
      assert.ok(rows.length >= 14);
      for (const { what, algorithms, errors } of rows) {
        assert.equal(algorithms, [algorithm, algorithm, algorithm], what);
        for (const [name, error] of Object.entries(errors))
          assert.ok(error < 1e-5, `${name} of ${what} is off by ${error} (${algorithm})`);
      }
    }
  });

test("an unknown algorithm is refused by name", async () => {
  const message = await start({ VOXGRAD_CONV: "fft" }).then(() => "ran", String);
  assert.match(message, /VOXGRAD_CONV: expected direct or winograd, found 'fft'/);
});

/** Names of the algorithms of a convolution's forward pass, input gradient and weight gradient, from the printed plan. */
async function printed(channels: number, extent: number, options: ConvOptions): Promise<string[]> {
  using plan = await compile((graph) => {
    const x = graph.input("x", [1, extent, extent, extent, channels]);
    const w = graph.input("w", [channels, 3, 3, 3, channels / (options.groups ?? 1)]);
    const y = conv3d(x, w, options);
    const [dx, dw] = gradients(sum(y), [x, w]);
    return { y, dx, dw };
  });
  return [...plan.toString().matchAll(/conv3d.* by (\w+)$/gm)].map(([, name]) => name);
}

test("the plan prints the choice: Winograd for many channels and tiles, direct for the rest", async () => {
  assert.is(process.env.VOXGRAD_CONV, undefined, "this test needs the choice to be free");
  const winograd = ["winograd", "winograd", "winograd"];
  const direct = ["direct", "direct", "direct"];
  assert.equal(await printed(32, 16, { padding: 1 }), winograd);
  assert.equal(await printed(64, 12, { padding: 0 }), winograd);
  assert.equal(await printed(2, 16, { padding: 1 }), direct);
  assert.equal(await printed(64, 2, { padding: 1 }), direct);
  assert.equal(await printed(32, 16, { padding: 1, stride: 2 }), direct);
  assert.equal(await printed(32, 16, { padding: 2, dilation: 2 }), direct);
  assert.equal(await printed(32, 16, { padding: 1, groups: 2 }), direct);
});

test.run();
