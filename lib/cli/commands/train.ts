import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Case, checkTestApart, grouping, groupsOf, hideLabels, openDataset } from "../../data/index.ts";
import { classesOf } from "../../data/label_map.ts";
import { counted, UsageError } from "../../errors.ts";
import { openDevice } from "../../runtime/device.ts";
import { readCheckpoint } from "../../train/checkpoint.ts";
import { type Config, makeConfig, presets } from "../../train/config.ts";
import { type Split, splitCases } from "../../train/data.ts";
import { checkRecipe, recipeNamed, recipes } from "../../train/recipes/index.ts";
import { type RunDescription, RunFolder } from "../../train/run.ts";
import { casesOf, readSplit } from "../../train/split.ts";
import { type Arguments, type Context, defineCommand } from "../arguments.ts";
import { deviceOption, precisionOption, shellCommand } from "../options.ts";
import { Progress } from "../progress.ts";
import { STOPPED } from "../run.ts";
import { findClasses, naming, readLabelMap, readSettings } from "../settings.ts";
import { paint } from "../style.ts";
import { sit } from "../training.ts";

const options = {
  data: {
    type: "string",
    placeholder: "DIR",
    help: "data folder: images/ and labels/ (or imagesTr/, labelsTr/); an image without a label is unlabelled",
  },
  out: { type: "string", short: "o", placeholder: "RUN", help: "folder of the run", required: true },
  preset: {
    type: "string",
    choices: Object.keys(presets),
    placeholder: "NAME",
    help: "settings to start from; default recommended, literal takes the numbers of the recipe's paper",
  },
  config: {
    type: "string",
    placeholder: "FILE",
    help: "JSON file with settings, such as the config.json of a run",
  },
  set: {
    type: "string",
    placeholder: "KEY=VALUE",
    multiple: true,
    help: "one setting, such as patch=96x96x64 or learningRate=0.05; overrides --config",
  },
  "labeled-cases": {
    type: "integer",
    help: "use only N labels, chosen by the seed; the rest are hidden (with a setting group, the labels of N groups)",
  },
  split: {
    type: "string",
    placeholder: "FILE",
    help: 'JSON {"labeled": [ids], "unlabeled": [ids], "validation": [ids]}, such as the split.json of a run; other cases are left out',
  },
  "label-map": {
    type: "string",
    placeholder: "FILE",
    help: 'JSON file with the class of each value in the label files, such as {"5": 1, "2": 2, "*": 0}; short for --set labelMap={...}',
  },
  seed: { type: "integer", help: "seed of weights, patches, augmentation and split; short for --set seed=N" },
  steps: { type: "integer", help: "training steps; short for --set steps=N" },
  resume: { type: "boolean", help: "go on with the run in --out, with its own settings" },
  precision: { ...precisionOption, help: `${precisionOption.help}; short for --set precision=NAME` },
  device: deviceOption,
} as const;

export const train = defineCommand({
  name: "train",
  summary: "Train networks on a folder of scans.",
  usage: "RECIPE --data DIR --out RUN [options]",
  options,
  positionals: [
    {
      name: "recipe",
      help: Object.values(recipes)
        .map(({ name, summary }) => `${name}: ${summary}`)
        .join(". "),
      required: false,
      choices: Object.keys(recipes),
    },
  ],
  notes: [
    "RUN then holds config.json (every setting), split.json, metrics.jsonl, last.safetensors, best.safetensors and report.html.",
    "Without a setting 'classes' their number is the largest label in the data folder, or class in the label map, + 1.",
    "Ctrl-C finishes the step, saves, prints the command that continues, and exits with status 130. A second Ctrl-C ends at once.",
  ],
  examples: [
    "voxgrad train sdnet --data scans --out runs/sdnet --labeled-cases 8",
    "voxgrad train supervised --data scans --out runs/supervised --split runs/sdnet/split.json",
    "voxgrad train sdnet --data scans --out runs/small --set patch=64x64x48 --set baseChannels=8 --steps 400",
    "voxgrad train cps --data scans --out runs/organs --label-map organs.json --set patch=256x256x1",
    "voxgrad train --out runs/sdnet --resume",
  ],
  async run({ options: given, positionals: { recipe } }, context) {
    const run = new RunFolder(given.out);
    if (given.resume) return resume(run, given, recipe, context);
    if (recipe === undefined)
      throw new UsageError(`RECIPE is missing: one of ${Object.keys(recipes).join(", ")}`);
    return start(run, given, recipe, context);
  },
});

type Given = Arguments<typeof options, []>["options"];

async function start(run: RunFolder, given: Given, recipeName: string, context: Context): Promise<number> {
  if (given.data === undefined) throw new UsageError("--data DIR is required");
  if (given.split !== undefined && given.labeledCases !== undefined)
    throw new UsageError("--split already says which cases are labelled: leave --labeled-cases out");
  await run.checkNew();
  const recipe = recipeNamed(recipeName);
  const { seed, steps, precision } = given;
  const map = given.labelMap === undefined ? undefined : await readLabelMap(given.labelMap);
  const asked = await readSettings(given.config, given.set, { seed, steps, precision, labelMap: map });
  const preset = given.preset ?? asked.preset ?? "recommended";
  const values: Record<string, unknown> = { ...asked.values };
  const configured = () => naming(asked, () => makeConfig(preset, values, recipe));
  const { labelMap, group } = configured();
  if (labelMap !== null) values.classes ??= classesOf(labelMap);
  checkRecipe(recipe, configured());

  const dataset = await openDataset(given.data);
  checkTestApart(dataset, group);
  if (values.classes === undefined) values.classes = await announceClasses(dataset.cases, context);
  const { split, config } = await chooseSplit(dataset.cases, given, configured(), values);
  const data = resolve(given.data);
  let unlock: (() => Promise<void>) | undefined;
  const result = await sit(
    {
      run,
      recipe,
      config,
      cases: casesOf(split, dataset.cases),
      split,
      device: openDevice(given.device),
      resume: false,
      onReady: async () => {
        await run.create({ recipe: recipe.name, preset, data, config }, split);
        unlock = await run.lock();
      },
      resumeCommand: resumeCommand(given),
    },
    context,
  ).finally(() => unlock?.());
  return result.finished ? 0 : STOPPED;
}

async function announceClasses(cases: readonly Case[], { stdout }: Context): Promise<number> {
  const progress = new Progress(stdout, { total: cases.length, label: "read labels", unit: "file" });
  const { classes, files, absent } = await findClasses(cases, (done) => progress.update(done));
  progress.done();
  progress.log(
    `classes   ${classes}: the largest label in ${counted(files, "label file")} is at most ${classes - 1}`,
  );
  if (absent.length > 0)
    progress.log(
      `${paint(stdout, "yellow", "warning:")} no voxel has label ${absent.slice(0, 8).join(", ")}${absent.length > 8 ? ", …" : ""}: ` +
        "where that is no class, number the labels without gaps, or name them in a label map",
    );
  return classes;
}

async function chooseSplit(
  cases: readonly Case[],
  { split: file, labeledCases }: Given,
  config: Config,
  values: Readonly<Record<string, unknown>>,
): Promise<{ split: Split; config: Config }> {
  if (file === undefined) {
    const visible =
      labeledCases === undefined ? cases : hideLabels(cases, labeledCases, config.seed, config.group);
    return { split: splitCases(visible, config), config };
  }
  const split = await readSplit(file, cases, config.group);
  const { length } = groupsOf(split.validation, grouping(config.group));
  if (values.validationCases !== undefined && values.validationCases !== length)
    throw new UsageError(
      `${file} lists ${counted(length, `validation ${config.group === null ? "case" : "group"}`)}, and setting "validationCases" is ${config.validationCases}`,
    );
  return { split, config: { ...config, validationCases: length } };
}

/** Throws UsageError where an option would change the settings of the run that goes on. */
function checkResume({
  preset,
  config,
  set,
  labeledCases,
  split,
  labelMap,
  seed,
  steps,
  precision,
}: Given): void {
  const changed = Object.entries({
    preset,
    config,
    "labeled-cases": labeledCases,
    split,
    "label-map": labelMap,
    seed,
    steps,
    precision,
  })
    .filter(([, value]) => value !== undefined)
    .map(([name]) => name);
  if (set.length > 0) changed.push("set");
  if (changed.length > 0)
    throw new UsageError(`--resume goes on with the settings of the run: leave --${changed[0]} out`);
}

async function resume(
  run: RunFolder,
  given: Given,
  recipeName: string | undefined,
  context: Context,
): Promise<number> {
  checkResume(given);
  const description = await run.describe();
  if (recipeName !== undefined && recipeName !== description.recipe)
    throw new UsageError(`the run in ${run.path} has recipe ${description.recipe}, not ${recipeName}`);
  const unlock = await run.lock();
  return goOn(run, given, description, context).finally(unlock);
}

async function goOn(
  run: RunFolder,
  given: Given,
  description: RunDescription,
  context: Context,
): Promise<number> {
  const { config } = description;
  const recipe = recipeNamed(description.recipe);
  const split = await run.split();
  const { cases } = await openDataset(given.data ?? description.data);
  const progress = new Progress(context.stdout, { total: config.steps, label: "train" });

  const last = run.file("last.safetensors");
  const begun = existsSync(last);
  const step = begun ? Number((await readCheckpoint(last)).metadata.step) : 0;
  // A run that ends by estimating statistics again may have been stopped while it did.
  if (step === config.steps && config.reestimateBatches === 0) {
    progress.log(`the run in ${run.path} has finished: ${step} of ${counted(config.steps, "step")} are done`);
    return 0;
  }
  if (!begun) {
    progress.log(`the run in ${run.path} has no checkpoint yet: it begins again`);
    await run.rewindMetrics(0);
  }
  const result = await sit(
    {
      run,
      recipe,
      config,
      cases: casesOf(split, cases),
      split,
      device: openDevice(given.device),
      resume: begun,
      resumeCommand: resumeCommand(given),
    },
    context,
  );
  return result.finished ? 0 : STOPPED;
}

/** What to type to go on with a run that was stopped. */
function resumeCommand({ out, device, data, resume: resumed }: Given): string {
  const words = ["voxgrad", "train", "--out", out, "--resume"];
  if (resumed && data !== undefined) words.push("--data", data);
  if (device !== "auto") words.push("--device", device);
  return shellCommand(words);
}
