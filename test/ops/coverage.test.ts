/** Holds the table of ops, the table of CPU kernels and the tests against each other. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Graph } from "../../lib/graph/graph.ts";
import { opNames, opOf } from "../../lib/ops/define.ts";
import { native } from "../../lib/runtime/native.ts";

const ops = join(import.meta.dirname, "../../lib/ops");
for (const file of readdirSync(ops)) if (file.endsWith(".ts")) await import(join(ops, file));

const names = opNames();

test("every op has a CPU kernel and every kernel an op", () => {
  assert.ok(names.length > 40, `only ${names.length} ops`);
  const kernels = native().open().kernels();
  assert.is(new Set(kernels).size, kernels.length, "a kernel is listed twice");
  // These serve the planner, not a differentiable op.
  const internal = [
    "asppWeightGradients",
    "constant",
    "conv3dPackedMoments",
    "copy",
    "normalizeReluConv3dPackedMoments",
    "segmentationLosses",
    "sgd",
  ];
  // The compiler always packs their weights.
  const packed = ["aspp", "asppInputGradient"];
  assert.equal(
    kernels.filter((name) => !internal.includes(name)).sort(),
    names.filter((name) => !internal.includes(name) && !packed.includes(name)),
  );
  for (const name of internal) assert.ok(kernels.includes(name), name);
});

test("the ops without a gradient are these; a new one is added on purpose", () => {
  const graph = new Graph();
  const without = names.filter(
    (name) => opOf(graph.add(name, [], {}, { dtype: "f32", shape: [] }))?.grad === "none",
  );
  assert.equal(without, [
    "argmax",
    "asppInputGradient",
    "asppPacked",
    "asppWeightGradient",
    "cast",
    "conv3dPackWeights",
    "conv3dPacked",
    "crossEntropyGradient",
    "diceOfSumsGradient",
    "diceSumsGradient",
    "ema",
    "less",
    "logSoftmaxGradient",
    "maskedMseGradient",
    "maxPool3dGradient",
    "moments",
    "normalizeGradientSums",
    "normalizeInputGradient",
    "normalizeParameterGradient",
    "normalizeReluConv3dPacked",
    "normalizeReluConv3dWeightGradient",
    "notEqual",
    "oneHot",
    "preluInputGradient",
    "preluSlopeGradient",
    "randomFlip",
    "randomIntensity",
    "randomRotate",
    "ratioOfSumsGradient",
    "segmentationSumsGradient",
    "sgdStep",
    "sgdVelocity",
    "softmaxDistanceGradient",
    "softmaxGradient",
    "unbiasedMoments",
  ]);
});

test("every public function of lib/ops that adds a node is called in a test of ops", () => {
  const tests = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => readFileSync(join(import.meta.dirname, file), "utf8"))
    .join("\n");
  const inner = ["check.ts", "define.ts", "constant.ts"];
  let found = 0;
  for (const file of readdirSync(ops).filter((each) => !inner.includes(each))) {
    const source = readFileSync(join(ops, file), "utf8");
    for (const rest of source.split(/^export (?:function|const) /m).slice(1)) {
      const declaration = rest.slice(0, rest.search(/\n\n|\n\}|$/));
      if (!/\): (Value|\{ y: Value)/.test(declaration)) continue;
      const [name] = declaration.match(/^\w+/) as RegExpMatchArray;
      assert.match(tests, new RegExp(`\\b${name}\\(`), `${file}: no test calls ${name}`);
      found++;
    }
  }
  assert.ok(found >= 30, `only ${found} functions found`);
});

test.run();
