/** Cross pseudo supervision: what its losses are made of, on tiny cohorts in 2-D and 3-D. */
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates } from "../../lib/compile/states.ts";
import type { State } from "../../lib/graph/state.ts";
import { slice } from "../../lib/ops/shape.ts";
import { type Config, makeConfig } from "../../lib/train/config.ts";
import { checkRecipe, cps, type Recipe } from "../../lib/train/recipes/index.ts";
import { supervise } from "../../lib/train/recipes/recipe.ts";
import { makeLearners } from "../../lib/train/step.ts";
import { device, tinyCohort, tinyConfig, tinyRun } from "./fixtures.ts";

const data = await tinyCohort();
/** For two patches of 32x32x1: the upper half comes from the other one. */
const halves = Uint8Array.from({ length: 2 * 32 * 32 }, (_, i) => (i % 1024 < 512 ? 1 : 0));
const slices = (settings: Partial<Config> = {}) =>
  tinyConfig({ patch: [32, 32, 1], cutMixBoxes: 0, ...settings }, "cps");

for (const [title, settings] of [
  ["slices by DeepLabv3+, mixed by CutMix", { patch: [32, 32, 1] }],
  [
    "slices, pseudo-labels on all of them unmixed",
    { patch: [32, 32, 1], pseudoLabels: "all", cutMixBoxes: 0 },
  ],
  ["volumes by V-Net, mixed by CutMix", { networks: ["vnet", "vnet"], unlabeledPerBatch: 2 }],
] as const) {
  test(`the losses of both networks fall on ${title}`, async () => {
    const config = tinyConfig(
      {
        ...(structuredClone(settings) as Partial<Config>),
        steps: 60,
        learningRate: 0.05,
        checkpointEvery: 60,
      },
      "cps",
    );
    const lines = await (await tinyRun(data, "cps", config)).metrics();
    const [first, second] = config.networks.map((name, index) => `loss.${name}${index + 1}`);
    const over = (name: string, from: number) =>
      lines.slice(from, from + 10).reduce((sum, line) => sum + line[name] / 10, 0);
    for (const name of [first, second])
      assert.ok(over(name, 50) < 0.8 * over(name, 0), `${name} from ${over(name, 0)} to ${over(name, 50)}`);
    assert.is.not(lines[0][first], lines[0][second], "both networks start from the same weights");
    assert.ok(lines.every(({ agreement }) => agreement >= 0 && agreement <= 1));
  });
}

test("the same run again has the same bits", async () => {
  const config = slices({ cutMixBoxes: 3 });
  const runs = [await tinyRun(data, "cps", config), await tinyRun(data, "cps", config)];
  const [a, b] = runs.map((run) => readFileSync(run.file("last.safetensors")));
  assert.ok(a.equals(b));
  assert.equal(await runs[0].metrics(), await runs[1].metrics());
});

test("whole volumes are segmented slice by slice, for validation too", async () => {
  const run = await tinyRun(data, "cps", slices({ steps: 2, checkpointEvery: 2, validationCases: 1 }));
  const scores = (await run.metrics()).flatMap(({ validationDice }) => validationDice ?? []);
  assert.is(scores.length, 1);
  assert.ok(scores[0] >= 0 && scores[0] <= 1);
});

test("the loss is that of the labels plus lambda times that of the pseudo-labels", async () => {
  const run = await tinyRun(data, "cps", slices({ steps: 4, labelLoss: "crossEntropy", rampShare: 0 }));
  const none = await tinyRun(
    data,
    "cps",
    slices({ steps: 1, labelLoss: "crossEntropy", unsupervisedWeight: 0 }),
  );
  const [line] = await run.metrics();
  const [alone] = await none.metrics();
  assert.is(line.unsupervisedWeight, 0.5);
  for (const name of ["deeplabv3plus1", "deeplabv3plus2"]) {
    const expected = alone[`loss.${name}`] + 0.5 * line[`unsupervised.${name}`];
    assert.ok(line[`unsupervised.${name}`] > 0);
    assert.ok(Math.abs(line[`loss.${name}`] - expected) < 1e-5 * expected);
  }
});

interface StepOptions {
  readonly recipe?: Recipe;
  /** Mixes the unlabelled patches by this mask. */
  readonly mask?: Uint8Array;
  readonly training?: boolean;
}

/** The losses of one step, and their gradients by the last parameter of both networks. */
async function stepOf(
  config: Config,
  { recipe = cps, mask, training = true }: StepOptions = {},
): Promise<Record<string, Float32Array>> {
  const { networks, numbers, everything } = makeLearners(config, recipe);
  const [x, y, z] = config.patch;
  using plan = await compile((graph) => {
    const image = graph.input("image", [4, z, y, x, 1]);
    const { losses } = recipe.step({
      config,
      networks,
      mode: { training, statistics: "keep" },
      mixMask: mask && graph.input("mixMask", [2, z, y, x], "u8"),
      image,
      views: [image, image],
      number: (name) => numbers.get(name) as State,
      labels: graph.input("labels", [2, z, y, x], "u8"),
      unsupervisedWeight: graph.input("unsupervisedWeight", []),
    });
    const slopes = losses.flatMap((loss, of) =>
      networks.flatMap((network, by) => {
        const [head] = network.parameters().slice(-1);
        const [slope] = gradients(loss, [graph.read(head)]);
        return [[`loss${of}.by${by}`, slope] as const];
      }),
    );
    return { loss0: losses[0], loss1: losses[1], ...Object.fromEntries(slopes) };
  });
  const image = Float32Array.from({ length: 4 * x * y * z }, (_, i) => Math.sin(i * 0.37) + ((i >> 4) % 3));
  const labels = Uint8Array.from({ length: 2 * x * y * z }, (_, i) => (i >> 4) % 2);
  const feed = { image, labels, unsupervisedWeight: config.unsupervisedWeight };
  const out = await plan.run(mask === undefined ? feed : { ...feed, mixMask: mask });
  disposeStates(device, everything.values());
  return out as Record<string, Float32Array>;
}

test("pseudo-labels carry no gradient: no loss depends on the weights of the other network", async () => {
  for (const settings of [{}, { pseudoLabels: "all" }, { mask: halves }] as const) {
    const { mask, ...rest } = { mask: undefined, ...settings };
    const out = await stepOf(slices(rest), { mask });
    for (const [name, values] of Object.entries(out)) {
      if (!name.includes(".")) continue;
      const own = name === "loss0.by0" || name === "loss1.by1";
      const moves = values.some((value) => value !== 0);
      assert.is(moves, own, name);
    }
  }
});

test("mixing by a mask that exchanges or leaves whole patches changes no loss, another mask does", async () => {
  // In training, batch norm would see other batches.
  const config = slices({ pseudoLabels: "all" });
  const unmixed = await stepOf(config, { training: false });
  for (const [fill, mask] of [
    ["ones", new Uint8Array(halves.length).fill(1)],
    ["zeros", new Uint8Array(halves.length)],
  ] as const) {
    const mixed = await stepOf(config, { training: false, mask });
    for (const name of ["loss0", "loss1"])
      assert.ok(Math.abs(mixed[name][0] - unmixed[name][0]) < 1e-5 * unmixed[name][0], `${fill}, ${name}`);
  }
  const mixed = await stepOf(config, { training: false, mask: halves });
  assert.ok(Math.abs(mixed.loss0[0] - unmixed.loss0[0]) > 1e-4 * unmixed.loss0[0]);
});

test("with lambda 0 a step is that of both networks learning from labels by themselves", async () => {
  const config = slices({ unsupervisedWeight: 0, labeledPerBatch: 2 });
  const pair = await stepOf(config);
  const weighted = await stepOf({ ...config, unsupervisedWeight: 0.5 });
  const recipe: Recipe = {
    ...cps,
    step: ({ networks, image, labels, mode, config: own }) => {
      const logits = networks.map((network) => network.apply(image, mode));
      const parts = logits.map((all) => supervise(slice(all, { axis: 0, start: 0, length: 2 }), labels, own));
      return { losses: parts.map(({ loss }) => loss), metrics: {} };
    },
  };
  const alone = await stepOf(config, { recipe });
  for (const [name, values] of Object.entries(alone)) {
    assert.equal(pair[name], values, name);
    const crossed = name === "loss0.by1" || name === "loss1.by0";
    if (!crossed) assert.not.equal(weighted[name], values, name);
  }
});

test("its literal preset has the paper's numbers, and the networks are checked", () => {
  const {
    learningRate,
    momentum,
    weightDecay,
    unsupervisedWeight,
    patch,
    window,
    labelLoss,
    schedule,
    pseudoLabels,
  } = makeConfig("literal", {}, cps);
  assert.equal(
    {
      learningRate,
      momentum,
      weightDecay,
      unsupervisedWeight,
      patch,
      window,
      labelLoss,
      schedule,
      pseudoLabels,
    },
    {
      learningRate: 0.02,
      momentum: 0.1,
      weightDecay: 1e-4,
      unsupervisedWeight: 0.5,
      patch: [512, 512, 1],
      window: [-100, 1000],
      labelLoss: "crossEntropy",
      schedule: "warmUpPoly",
      pseudoLabels: "unlabeled",
    },
  );
  assert.throws(() => checkRecipe(cps, slices({ networks: ["deeplabv3plus"] })), /trains 2 networks/);
  const single = slices({ unlabeledPerBatch: 1 });
  checkRecipe(cps, single);
  assert.throws(() => checkRecipe(cps, { ...single, cutMixBoxes: 3 }), /CutMix .* needs 2 or more, found 1/);
});

test.run();
