/** How cuDNN is found, which versions are taken, and what is handed to it: with a library of the test's own in its place. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { whyNot } from "../../lib/runtime/device.ts";
import { noCompiler } from "./compiler.ts";
import { buildFakeCudnn, buildLibrary } from "./fake_cudnn.ts";

const reason = whyNot("emulator") ?? noCompiler;
if (reason !== undefined) test(`skipped: ${reason}`, () => console.log(`skipped: ${reason}`));

const folder = mkdtempSync(join(tmpdir(), "voxgrad-cudnn-"));
const fake = join(folder, "libcudnn.so.9");
const empty = join(folder, "empty", "libcudnn.so.9");

async function run(script: string[], env: Record<string, string>): Promise<string> {
  const own = { VOXGRAD_TUNING: join(folder, "tuning.json"), ...env };
  const options = { cwd: join(import.meta.dirname, "../.."), env: { ...process.env, ...own } };
  return (await promisify(execFile)(process.execPath, ["--import", "tsx", ...script], options)).stdout;
}

const describe = (env: Record<string, string>) =>
  run(
    ["-e", 'import("./lib/runtime/device.ts").then((m) => console.log(m.openDevice("emulator").describe()))'],
    env,
  );

if (reason === undefined) {
  buildFakeCudnn(fake);
  mkdirSync(join(folder, "empty"));
  writeFileSync(join(folder, "empty.cc"), "extern int nothing;\nint nothing = 0;\n");
  buildLibrary(join(folder, "empty.cc"), empty);

  for (const [what, env, expected] of [
    ["a file", { VOXGRAD_CUDNN: fake }, /, cuDNN 9\.15\.1$/],
    ["a folder", { VOXGRAD_CUDNN: folder }, /, cuDNN 9\.15\.1$/],
    ["nothing", { VOXGRAD_CUDNN: "off" }, /, cuDNN is switched off$/],
    ["a folder without it", { VOXGRAD_CUDNN: tmpdir() }, /, no cuDNN in /],
    [
      "another library",
      { VOXGRAD_CUDNN: empty },
      /, no cuDNN 9: the library has no function cudnnGetVersion$/,
    ],
    [
      "9.10",
      { VOXGRAD_CUDNN: fake, FAKE_CUDNN_VERSION: "91002" },
      /, cuDNN 9\.10\.2 is not used: 9\.15 or later/,
    ],
    ["8.9", { VOXGRAD_CUDNN: fake, FAKE_CUDNN_VERSION: "8907" }, /, cuDNN 8\.9\.7 is not used/],
    [
      "10",
      { VOXGRAD_CUDNN: fake, FAKE_CUDNN_VERSION: "100000" },
      /, cuDNN 10\.0\.0 is not used: .* below 10$/,
    ],
  ] as const)
    test(`VOXGRAD_CUDNN names ${what}`, async () => {
      assert.match((await describe(env)).trim(), expected);
    });

  // What the library does not take our kernels do, of numbers with 11 bits in tf32 and 8 in bf16.
  for (const [precision, accuracy] of [
    ["f32", 1e-5],
    ["tf32", 2e-3],
    ["bf16", 2e-2],
  ] as const)
    test(`convolutions and gradients go to it where it takes them, and are right, in ${precision}`, async () => {
      const rows = JSON.parse(
        await run([join(import.meta.dirname, "conv_by_cudnn.ts"), precision], { VOXGRAD_CUDNN: fake }),
      ) as {
        algorithms: string[];
        errors: Record<string, number>;
      }[];
      const taken = rows.map(({ algorithms }) =>
        // Which of its ways of making moments is the faster one is not the same every time.
        algorithms
          .filter((each) => each.includes("cuDNN 9.15.1"))
          .map((each) => each.replace(" with sums", ""))
          .sort(),
      );
      const name = `cuDNN 9.15.1, ${precision}`;
      const all = [`conv3dPacked: ${name}`, `conv3dPackedMoments: ${name}`, `conv3dWeightGradient: ${name}`];
      assert.equal(taken, [all, all, all, []]);
      for (const { errors } of rows)
        for (const [tensor, error] of Object.entries(errors))
          assert.ok(error < accuracy, `${tensor} is off by ${error}`);
    });

  for (const [env, rivals] of [
    [{ VOXGRAD_CUDNN: fake }, ["cudnn"]],
    [{}, []],
  ] as const)
    test(`a benchmark of convolutions compares with ${rivals.length > 0 ? "it" : "nothing where it is not there"}`, async () => {
      const script = join(import.meta.dirname, "rivals_of_conv.ts");
      assert.equal(JSON.parse(await run([script], env)), rivals);
    });
}

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
