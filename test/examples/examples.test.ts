/** Runs what users copy, on tiny data, as they would run it. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { voxgrad } from "../cli/harness.ts";
import { temporaryFolder, tinyCohort, tinyConfig, tinyRun } from "../train/fixtures.ts";

const folder = join(import.meta.dirname, "..", "..", "examples");
const node = (script: string, ...args: string[]) => ["--import", "tsx", join(folder, script), ...args];

function run(script: string, ...args: string[]): string {
  const child = spawnSync(process.execPath, node(script, ...args), { encoding: "utf8", timeout: 60_000 });
  assert.is(child.status, 0, child.stderr);
  return child.stdout;
}

const last = (text: string, pattern: RegExp) => Number([...text.matchAll(pattern)].at(-1)?.[1]);

test("sdnet.ts trains both networks, in under 60 lines", async () => {
  const text = run("sdnet.ts", await tinyCohort(), "3");
  assert.ok(last(text, /step 3 {2}vnet ([\d.]+)/g) > 0, text);
  const code = readFileSync(join(folder, "sdnet.ts"), "utf8").replace(/\/\*\*[^]*?\*\//g, "");
  const lines = code.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("//"));
  assert.ok(lines.length < 60, `${lines.length} lines`);
});

test("own_network.ts learns", () => {
  const text = run("own_network.ts", "60");
  const first = Number(/step 10 {2}loss ([\d.]+)/.exec(text)?.[1]);
  assert.ok(last(text, /loss ([\d.]+)/g) < 0.7 * first, text);
});

test("segment.ts writes what predict writes", async () => {
  const data = await tinyCohort();
  const scan = join(data, "images", "phantom-003.nii.gz");
  const trained = await tinyRun(
    data,
    "supervised",
    // Four channels find something whichever way sums are rounded; two may not.
    tinyConfig({ steps: 40, baseChannels: 4, learningRate: 0.01, orientation: "RAS" }, "supervised"),
  );
  const [own, command] = [temporaryFolder(), temporaryFolder()];
  assert.match(run("segment.ts", trained.path, own, scan), /phantom-003\.nii\.gz: \d+ of 16384 voxels/);
  const { status, err } = await voxgrad([
    "predict",
    "--run",
    trained.path,
    "--input",
    scan,
    "--out",
    command,
  ]);
  assert.is(status, 0, err);
  const [found, wanted] = [own, command].map((at) =>
    gunzipSync(readFileSync(join(at, "phantom-003.nii.gz"))),
  );
  assert.ok(found.equals(wanted));
  assert.ok(
    found.subarray(352).some((label) => label > 0),
    "nothing was segmented: the comparison says nothing",
  );
});

test("server.ts keeps answering while it convolves", async () => {
  const child = spawn(process.execPath, node("server.ts", "0"));
  try {
    const port = await portOf(child);
    const blur = fetch(`http://127.0.0.1:${port}/blur`).then((response) => response.text());
    let answers = 0;
    let done = false;
    void blur.then(() => (done = true));
    while (!done) {
      assert.is(await (await fetch(`http://127.0.0.1:${port}/health`)).text(), "ok\n");
      answers++;
    }
    assert.match(await blur, /after \d+ ms/);
    // One to each of the ten convolutions, if checks waited for them.
    assert.ok(answers > 20, `${answers} answers`);
  } finally {
    child.kill();
  }
});

function portOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk) => {
      text += String(chunk);
      const port = /port (\d+)/.exec(text)?.[1];
      if (port !== undefined) resolve(Number(port));
    });
    child.once("close", () => reject(new Error(`the server ended: ${text}`)));
  });
}

test.run();
