import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { shellCommand } from "../../lib/cli/options.ts";
import { makeCohort, scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
const data = await makeCohort(join(root, "data"));
const runFiles = [
  "config.json",
  "split.json",
  "metrics.jsonl",
  "last.safetensors",
  "best.safetensors",
  "report.html",
];
const readJson = (...path: string[]) =>
  JSON.parse(readFileSync(join(...path), "utf8")) as Record<string, unknown>;
const lines = (...path: string[]) =>
  readFileSync(join(...path), "utf8")
    .trim()
    .split("\n");

test("a run writes its folder and says what it does", async () => {
  const run = join(root, "sdnet");
  const { status, out, err } = await voxgrad([
    "train",
    "sdnet",
    "--data",
    data,
    "--out",
    run,
    "--steps",
    "4",
    ...tiny,
  ]);
  assert.is(err, "");
  assert.is(status, 0);
  for (const file of runFiles) assert.ok(existsSync(join(run, file)), file);
  assert.match(out, /^classes {3}2: /);
  assert.match(out, /vnet 148,610 parameters, resvnet 281,996 parameters/);
  assert.match(out, /2 labelled, 2 unlabelled, 0 for validation/);
  assert.match(out, /GFLOP a step, peak memory [\d.]+ MiB/);
  assert.match(out, /step 2\/4 {2}mean loss .*\n(train .*\n)?step 4\/4/);
  assert.is(lines(run, "metrics.jsonl").length, 4);
  assert.equal(readJson(run, "split.json"), {
    labeled: ["phantom-000", "phantom-001"],
    unlabeled: ["phantom-002", "phantom-003"],
    validation: [],
  });
  assert.is((readJson(run, "config.json").config as { classes: number }).classes, 2);
  const html = readFileSync(join(run, "report.html"), "utf8");
  assert.match(html, /Dice loss of the labelled patches/);
  assert.is(html.split("<article>").length - 1, 4);
});

test("a run stopped by Ctrl-C and resumed ends with the same bytes", async () => {
  const argv = (run: string) => ["train", "sdnet", "--data", data, "--out", run, "--steps", "5", ...tiny];
  const [whole, parted] = [join(root, "whole"), join(root, "parted run")];
  assert.is((await voxgrad(argv(whole))).status, 0);

  const stopped = await voxgrad(argv(parted), "step 2/5");
  assert.is(stopped.status, 130);
  assert.match(stopped.out, /stopped {3}after 2 of 5 steps, saved in /);
  assert.ok(stopped.out.includes(`voxgrad train --out '${parted}' --resume`));
  assert.ok(existsSync(join(parted, "report.html")));

  const resumed = await voxgrad(["train", "sdnet", "--out", parted, "--resume"]);
  assert.is(resumed.status, 0);
  assert.match(resumed.out, /resume {4}at step 2 of 5/);
  for (const file of ["last.safetensors", "best.safetensors", "metrics.jsonl"])
    assert.ok(readFileSync(join(whole, file)).equals(readFileSync(join(parted, file))), file);

  const again = await voxgrad(["train", "--out", parted, "--resume"]);
  assert.is(again.status, 0);
  assert.match(again.out, /has finished: 5 of 5 steps/);
  const changed = await voxgrad(["train", "--out", parted, "--resume", "--steps", "9"]);
  assert.is(changed.status, 2);
  assert.match(changed.err, /leave --steps out/);
  const other = await voxgrad(["train", "supervised", "--out", parted, "--resume"]);
  assert.match(other.err, /has recipe sdnet, not supervised/);
});

test("a run stopped before its first step leaves a folder that can be resumed", async () => {
  const run = join(root, "early");
  const stopped = await voxgrad(
    ["train", "supervised", "--data", data, "--out", run, "--steps", "1", ...tiny],
    "device",
  );
  assert.is(stopped.status, 130);
  assert.match(stopped.out, /after 0 of 1 step; nothing to save yet/);
  const resumed = await voxgrad(["train", "--out", run, "--resume"]);
  assert.is(resumed.status, 0);
  assert.match(resumed.out, /has no checkpoint yet: it begins again/);
});

test("labels are hidden by seed, and another run can use the same split", async () => {
  const [few, same] = [join(root, "few"), join(root, "same")];
  const argv = ["train", "supervised", "--data", data, "--steps", "1", ...tiny];
  assert.is((await voxgrad([...argv, "--out", few, "--labeled-cases", "1", "--seed", "5"])).status, 0);
  const split = readJson(few, "split.json") as { labeled: string[]; unlabeled: string[] };
  assert.is(split.labeled.length, 1);
  assert.is(split.unlabeled.length, 3);
  assert.is((await voxgrad([...argv, "--out", same, "--split", join(few, "split.json")])).status, 0);
  assert.equal(readJson(same, "split.json"), split);
  const both = await voxgrad([...argv, "--out", join(root, "no"), "--split", "x", "--labeled-cases", "1"]);
  assert.is(both.status, 2);
});

test("validation cases of a split choose the best checkpoint", async () => {
  const file = join(root, "split.json");
  writeFileSync(
    file,
    JSON.stringify({ labeled: ["phantom-000"], unlabeled: [], validation: ["phantom-001"] }),
  );
  const argv = ["train", "sdnet", "--data", data, "--out", join(root, "validated"), "--steps", "2", ...tiny];
  const { status, out } = await voxgrad([...argv, "--split", file]);
  assert.is(status, 0);
  assert.match(out, /step 2\/2 {2}validation Dice 0\.\d{4} \(best\)/);
});

test("a split that does not fit the data is refused", async () => {
  const file = join(root, "wrong.json");
  const refuse = async (split: unknown, expected: RegExp) => {
    writeFileSync(file, JSON.stringify(split));
    const argv = ["train", "sdnet", "--data", data, "--out", join(root, "refused"), "--split", file];
    const { status, err } = await voxgrad(argv);
    assert.is(status, 1);
    assert.match(err, expected);
  };
  await refuse(
    { labeled: ["phantom-0000"], unlabeled: [] },
    /"phantom-0000" is not in the dataset, did you mean "phantom-000"/,
  );
  await refuse({ labeled: ["phantom-000"], unlabeled: ["phantom-000"] }, /"phantom-000" is listed twice/);
  await refuse({ labeled: ["phantom-002"], unlabeled: [] }, /"phantom-002" needs a label/);
  await refuse({ labeled: [], unlabeled: [] }, /labeled/);
});

test("settings come from the preset, the file and the command line, in this order", async () => {
  const run = join(root, "settings");
  const file = join(root, "settings.json");
  writeFileSync(
    file,
    JSON.stringify({ patch: [16, 16, 16], baseChannels: 2, steps: 7, momentum: 0.5, rotate: 0 }),
  );
  const argv = ["train", "supervised", "--data", data, "--out", run, "--preset", "literal", "--config", file];
  const { status } = await voxgrad([
    ...argv,
    "--set",
    "momentum=0.25",
    "--set",
    "networks=vnet",
    "--steps",
    "1",
  ]);
  assert.is(status, 0);
  const { config } = readJson(run, "config.json") as { config: Record<string, unknown> };
  assert.equal([config.steps, config.momentum, config.rotate, config.dice], [1, 0.25, 0, "linear"]);
  assert.equal(config.networks, ["vnet"]);

  const repeated = join(root, "repeated");
  const again = [
    "train",
    "supervised",
    "--data",
    data,
    "--out",
    repeated,
    "--config",
    join(run, "config.json"),
  ];
  assert.is((await voxgrad(again)).status, 0);
  assert.equal(readJson(repeated, "config.json"), readJson(run, "config.json"));
});

test("a setting that is refused is named with where it was given", async () => {
  const file = join(root, "refused.json");
  const refuse = async (settings: Record<string, unknown>, argv: string[], expected: string) => {
    writeFileSync(file, JSON.stringify(settings));
    const run = ["train", "sdnet", "--data", data, "--out", join(root, "refused"), "--config", file];
    const { status, err } = await voxgrad([...run, ...argv]);
    assert.is(status, 2, err);
    assert.ok(err.startsWith(`voxgrad train: ${expected}`), err);
  };
  const wrong = 'setting "steps": expected a number';
  await refuse({ steps: 0 }, [], `${file}: ${wrong} of at least 1; found 0\n`);
  await refuse({ step: 9 }, [], `${file}: unknown setting "step", did you mean "steps"?`);
  await refuse({ steps: 9 }, ["--set", "steps=many"], `--set steps=many: ${wrong}; found "many"\n`);
  await refuse({ steps: 9 }, ["--steps", "0"], `--steps: ${wrong} of at least 1; found 0\n`);
  const both = "--steps and --set steps=many give the same setting: leave one out\n";
  await refuse({}, ["--steps", "9", "--set", "steps=many"], both);
});

test("a loss that is not finite stops the run and names a tensor", async () => {
  const run = join(root, "nan");
  const argv = ["train", "sdnet", "--data", data, "--out", run, "--steps", "6", ...tiny];
  const { status, err } = await voxgrad([...argv, "--set", "learningRate=1e30"]);
  assert.is(status, 1);
  assert.match(err, /not finite/);
  assert.match(err, /ERR_NOT_FINITE/);
  assert.not.match(err, /\n\s+at /);
});

test("what cannot be meant is refused with the nearest right word", async () => {
  const base = ["train", "sdnet", "--data", data, "--out", join(root, "usage")];
  const refuse = async (argv: string[], expected: RegExp) => {
    const { status, err } = await voxgrad(argv);
    assert.is(status, 2, err);
    assert.match(err, expected);
  };
  await refuse([...base, "--set", "learningrate=1"], /did you mean "learningRate"/);
  await refuse([...base, "--set", "patch=20x20x20"], /multiples of 16/);
  await refuse([...base, "--set", "networks=vnet"], /recipe sdnet trains 2 networks/);
  await refuse([...base, "--set", "unlabeledPerBatch=0"], /unlabeledPerBatch/);
  await refuse([...base, "--labeled-case", "3"], /did you mean --labeled-cases/);
  await refuse([...base, "--labeled-cases", "9"], /from 0 to 2/);
  await refuse(["train", "sdnett", ...base.slice(2)], /did you mean sdnet/);
  await refuse(["train", "--data", data, "--out", "x"], /RECIPE is missing/);
  await refuse(["train", "sdnet", "--data", data, "--out", data], /is not empty/);
  assert.not(existsSync(join(root, "usage")));
});

test("the networks of a recipe's own preset are those that the patch must fit", async () => {
  const run = join(root, "cps");
  const argv = ["train", "cps", "--data", data, "--out", run, "--steps", "1", ...tiny];
  const { status, err } = await voxgrad([...argv, "--set", "patch=16x16x1"]);
  assert.is(status, 0, err);
  assert.equal((readJson(run, "config.json").config as Record<string, unknown>).networks, [
    "deeplabv3plus",
    "deeplabv3plus",
  ]);
});

test("a missing run or data folder is named", async () => {
  const noRun = await voxgrad(["train", "--out", join(root, "nowhere"), "--resume"]);
  assert.is(noRun.status, 1);
  assert.match(noRun.err, /nowhere.*there is no run in this folder/);
  const noData = await voxgrad(["train", "sdnet", "--data", join(root, "nothing"), "--out", join(root, "x")]);
  assert.is(noData.status, 1);
  assert.match(noData.err, /nothing: expected a data folder/);
});

test("commands to copy are quoted for the shell", () => {
  assert.is(shellCommand(["voxgrad", "a b", "it's"]), "voxgrad 'a b' 'it'\\''s'");
});

test.run();
