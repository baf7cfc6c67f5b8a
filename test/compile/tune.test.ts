/** Ways of computing convolutions: each is right, and the fastest is measured once and remembered. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile, type CompileOptions, planOnly } from "../../lib/compile/compile.ts";
import type { Graph } from "../../lib/graph/graph.ts";
import { conv3d, convTranspose3d } from "../../lib/ops/conv.ts";
import { openDevice, whyNot } from "../../lib/runtime/device.ts";
import { expectClose, random } from "../ops/harness.ts";

const reason = whyNot("emulator");
if (reason !== undefined) test(`skipped: ${reason}`, () => console.log(`skipped: ${reason}`));

const folder = mkdtempSync(join(tmpdir(), "voxgrad-tuning-"));
const file = join(folder, "deep", "tuning.json");
process.env.VOXGRAD_TUNING = file;

const x = Float32Array.from(random(2 * 3 * 4 * 16, 1));
const w = Float32Array.from(random(20 * 27 * 16, 2));
const trace = (graph: Graph) => {
  const image = graph.input("x", [1, 2, 3, 4, 16]);
  const y = conv3d(image, graph.input("w", [20, 3, 3, 3, 16]), { padding: 1 });
  return { y, up: convTranspose3d(y, graph.input("v", [20, 1, 1, 2, 24]), { stride: [1, 1, 2] }) };
};
const v = Float32Array.from(random(20 * 2 * 24, 3));

interface Entries {
  entries: Record<string, { way: string; milliseconds: number }>;
}
const contents = () => JSON.parse(readFileSync(file, "utf8")) as Entries;
const write = (change: (found: Entries) => void) => {
  const found = contents();
  change(found);
  writeFileSync(file, JSON.stringify(found));
};

async function results(options: CompileOptions) {
  using plan = await compile(trace, { device: openDevice("emulator"), paranoid: true, ...options });
  const { y, up } = await plan.run({ x, w, v });
  return { y, up, algorithms: algorithmsOf(plan) };
}

const algorithmsOf = ({ layout }: { layout: { steps: readonly { algorithm?: string }[] } }) =>
  layout.steps.flatMap(({ algorithm }) => algorithm ?? []);

async function warnings(work: () => Promise<unknown>): Promise<string[]> {
  const found: string[] = [];
  const listener = (warning: Error) => found.push(warning.message);
  process.on("warning", listener);
  await work();
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", listener);
  return found;
}

if (reason === undefined) {
  const device = openDevice("emulator");

  test("every way of a convolution and of an input gradient computes it", async () => {
    using cpu = await compile(trace, { device: openDevice("cpu") });
    const expected = await cpu.run({ x, w, v });
    const { layout } = planOnly(trace, { device });
    const keys = layout.steps.map(({ spec }) => device.native.ways(spec)).filter(({ length }) => length > 0);
    assert.is(keys.length, 2);
    assert.ok(
      keys[0].length >= 6 && keys[0].some((name) => /depth in \d+ parts/.test(name)),
      keys.join("; "),
    );
    await results({ tune: "on" });
    for (const [conv, ways] of keys.entries())
      for (const way of ways) {
        write(({ entries }) => (Object.values(entries)[conv].way = way));
        const { y, up, algorithms } = await results({ tune: "cached" });
        assert.is(algorithms[conv], way);
        expectClose(y, Float64Array.from(expected.y), 2e-6, way);
        expectClose(up, Float64Array.from(expected.up), 2e-6, way);
      }
  });

  test("what was measured is taken from the file and not measured again", async () => {
    rmSync(file);
    await results({ tune: "on" });
    const { entries } = contents();
    const [key, other] = Object.keys(entries);
    assert.match(
      key,
      /^voxgrad \d+\.\d+\.\d+, emulator: .*; conv3d.*; f32\[1,2,3,4,16\]; .*"padding":\[1,1,1\]/,
    );
    const slow = Object.values(entries).map(({ milliseconds }) => milliseconds > 0);
    assert.equal([slow, other === undefined], [[true, true], false]);
    const ways = device.native.ways(
      planOnly(trace, { device }).layout.steps.filter(({ algorithm }) => algorithm)[0].spec,
    );
    const last = ways[ways.length - 1];
    write((found) => (found.entries[key].way = last));
    assert.is((await results({ tune: "on" })).algorithms[0], last);
    assert.is(contents().entries[key].way, last);
    assert.is(algorithmsOf(planOnly(trace, { device, tune: "cached" }))[0], last);
    assert.is(algorithmsOf(planOnly(trace, { device }))[0], ways[0]);
  });

  test("an entry that names no way, or is of another version or device, is none", async () => {
    write(({ entries }) => {
      for (const [key, entry] of Object.entries(entries)) {
        entries[key.replace("emulator", "another")] = { ...entry };
        entry.way = "magic";
      }
    });
    const usual = algorithmsOf(planOnly(trace, { device }));
    assert.equal(algorithmsOf(planOnly(trace, { device, tune: "cached" })), usual);
    await results({ tune: "on" });
    const ways = Object.values(contents().entries).map(({ way }) => way);
    assert.is(ways.length, 4);
    assert.not.ok(ways.includes("magic"));
  });

  for (const [what, text] of [
    ["half a file", '{"format": "voxgrad tuning 1", "entr'],
    ["another format", '{"format": "voxgrad tuning 0", "entries": {}}'],
    ["a wrong entry", '{"format": "voxgrad tuning 1", "entries": {"a": {"way": 3}}}'],
  ])
    test(`${what} is ignored with a warning and then replaced`, async () => {
      writeFileSync(file, text);
      const found = await warnings(() => results({ tune: "on" }));
      assert.ok(
        found.length > 0 && found.every((line) => line.startsWith(`${file} is ignored: `)),
        found.join(),
      );
      assert.is(Object.keys(contents().entries).length, 2);
    });

  test("a file that cannot be written costs a warning", async () => {
    process.env.VOXGRAD_TUNING = join(file, "below-a-file");
    const found = await warnings(() => results({ tune: "on" }));
    process.env.VOXGRAD_TUNING = file;
    assert.ok(
      found.some((line) => / could not be written: /.test(line)),
      found.join(),
    );
  });

  test("an unknown wish is refused by name", () => {
    process.env.VOXGRAD_TUNE = "always";
    assert.throws(
      () => planOnly(trace, { device }),
      /VOXGRAD_TUNE: expected off, cached or on, found 'always'/,
    );
    delete process.env.VOXGRAD_TUNE;
  });

  test("a way that there is not is refused by name", () => {
    const { spec } = planOnly(trace, { device }).layout.steps.filter(({ algorithm }) => algorithm)[0];
    assert.throws(
      () => device.native.workspace({ ...spec, attributes: { ...spec.attributes, way: 99 } }),
      /there are \d+ ways, not one with number 99/,
    );
  });
}

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
