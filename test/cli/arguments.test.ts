import { mkdirSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Context, defineCommand, optionUsage, parseArguments } from "../../lib/cli/arguments.ts";
import { runCli } from "../../lib/cli/run.ts";
import { DataError, UsageError } from "../../lib/errors.ts";

interface Seen {
  options: unknown;
  positionals: unknown;
}
let seen: Seen | undefined;
let behaviour: () => number | void = () => undefined;

const train = defineCommand({
  name: "train",
  summary: "Train networks on a folder of scans.",
  usage: "RECIPE --data DIR [options]",
  options: {
    data: { type: "string", placeholder: "DIR", help: "folder with images/ and labels/", required: true },
    out: { type: "string", short: "o", placeholder: "RUN", help: "run folder", default: "run" },
    "labeled-cases": { type: "integer", help: "hide all labels but N" },
    "learning-rate": { type: "number", help: "first learning rate", default: 0.01 },
    device: { type: "string", choices: ["auto", "cpu"], help: "where to run", default: "auto" },
    set: { type: "string", multiple: true, placeholder: "KEY=VALUE", help: "override a key" },
    resume: { type: "boolean", help: "go on from the last checkpoint" },
    augment: { type: "boolean", help: "no random flips and rotations", default: true },
  },
  positionals: [{ name: "recipe", help: "what to train", required: true, choices: ["supervised", "sdnet"] }],
  examples: ["voxgrad train sdnet --data scans --labeled-cases 8"],
  run(args) {
    // Types follow from the definition: these lines are checked by the compiler.
    const out: string = args.options.out;
    const cases: number | undefined = args.options.labeledCases;
    const device: "auto" | "cpu" = args.options.device;
    const recipe: "supervised" | "sdnet" = args.positionals.recipe;
    const set: string[] = args.options.set;
    seen = { options: { ...args.options, out, cases, device, set }, positionals: { recipe } };
    return behaviour();
  },
});
const doctor = defineCommand({
  name: "doctor",
  summary: "Say what this machine offers.",
  usage: "",
  options: {},
  positionals: [],
  examples: [],
  run: () => undefined,
});

async function run(argv: string[], signal = new AbortController().signal) {
  let out = "";
  let err = "";
  seen = undefined;
  const context: Context = {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    signal,
    version: "1.2.3",
  };
  const status = await runCli([train, doctor], argv, context);
  return { status, out, err, seen: seen as Seen | undefined };
}

/** The line must be refused as usage, before the command ran, with a message that matches. */
async function refused(argv: string[], message: RegExp) {
  const result = await run(argv);
  assert.is(result.status, 2);
  assert.is(result.seen, undefined);
  assert.is(result.out, "");
  assert.match(result.err, message);
}

test.before.each(() => {
  behaviour = () => undefined;
});

test("values arrive typed, with defaults and in camelCase", async () => {
  const { status, err, seen } = await run(
    "train sdnet --data scans --labeled-cases=8 --learning-rate 1e-3 --set a=1 --set b=2 --resume".split(" "),
  );
  assert.is(err, "");
  assert.is(status, 0);
  assert.equal(seen?.positionals, { recipe: "sdnet" });
  const options = {
    data: "scans",
    out: "run",
    labeledCases: 8,
    learningRate: 0.001,
    device: "auto",
    set: ["a=1", "b=2"],
    resume: true,
    augment: true,
    cases: 8,
  };
  assert.equal(seen?.options, options);
});

test("short options, negation, negative numbers and absent values", async () => {
  const { seen } = await run("train supervised --data d -o there --no-augment --learning-rate -2".split(" "));
  const options = seen?.options as Record<string, unknown>;
  assert.is(options.out, "there");
  assert.is(options.augment, false);
  assert.is(options.learningRate, -2);
  assert.is(options.labeledCases, undefined);
  assert.is(options.resume, false);
  assert.equal(options.set, []);
});

test("an unknown option, choice or command names the nearest right one", async () => {
  await refused(
    ["train", "sdnet", "--data", "d", "--labelled-case", "3"],
    /unknown option --labelled-case; did you mean --labeled-cases\?/,
  );
  await refused(
    ["train", "sdnett", "--data", "d"],
    /RECIPE cannot be 'sdnett': expected one of supervised, sdnet; did you mean sdnet\?/,
  );
  await refused(
    ["train", "sdnet", "--data", "d", "--device", "cpuu"],
    /--device cannot be 'cpuu'.*did you mean cpu\?/,
  );
  assert.throws(
    () =>
      parseArguments(
        { options: { classes: { type: "integer", choices: ["2", "5"], help: "" } }, positionals: [] },
        ["--classes", "3"],
      ),
    /--classes cannot be '3': expected one of 2, 5$/,
  );
  await refused(["trian"], /no command 'trian'.*did you mean train\?\nsee voxgrad --help/);
  await refused(["train", "sdnet", "--data", "d", "-x"], /unknown option -x\nsee voxgrad train --help/);
});

test("missing and malformed values are refused", async () => {
  await refused(["train", "sdnet"], /--data DIR is required/);
  await refused(["train", "--data", "d"], /RECIPE is missing: one of supervised, sdnet/);
  await refused(["train", "sdnet", "--data"], /--data needs a value: --data DIR/);
  await refused(["train", "sdnet", "--data", "--resume"], /--data needs a value/);
  await refused(["train", "sdnet", "--data="], /--data needs a value/);
  await refused(
    ["train", "sdnet", "--data", "d", "--labeled-cases", "many"],
    /--labeled-cases needs an integer, found 'many'/,
  );
  await refused(["train", "sdnet", "--data", "d", "--labeled-cases", "2.5"], /needs an integer, found '2.5'/);
  await refused(
    ["train", "sdnet", "--data", "d", "--learning-rate", "fast"],
    /--learning-rate needs a number, found 'fast'/,
  );
  await refused(["train", "sdnet", "--data", "d", "--resume=yes"], /--resume takes no value, found 'yes'/);
  await refused(["train", "sdnet", "--data", "d", "--data", "e"], /--data is given 2 times/);
  await refused(["train", "sdnet", "cps", "--data", "d"], /unexpected argument 'cps'/);
  await refused(["doctor", "--constructor"], /unknown option --constructor/);
});

test("help, version and no command", async () => {
  for (const argv of [["--help"], ["-h"], ["help"]]) {
    const { status, out } = await run(argv);
    assert.is(status, 0);
    assert.match(out, /train {3}Train networks on a folder/);
  }
  assert.equal((await run(["--version"])).out, "1.2.3\n");
  const none = await run([]);
  assert.is(none.status, 2);
  assert.is(none.out, "");
  assert.match(none.err, /voxgrad COMMAND --help/);
});

test("the help of a command aligns its options and shows examples", async () => {
  const { status, out, seen } = await run(["train", "--data", "--help"]);
  assert.is(status, 0);
  assert.is(seen, undefined);
  assert.is((await run(["help", "train"])).out, out);
  assert.match(out, "  voxgrad train RECIPE --data DIR [options]\n");
  assert.match(out, "voxgrad train sdnet --data scans --labeled-cases 8\n");
  assert.match(out, /-o, --out RUN +run folder \(default run\)\n/);
  assert.match(out, /--no-augment +no random flips/);
  const starts = ["run folder", "where to run", "hide all labels", "show this text"].map((help) => {
    const line = out.split("\n").find((text) => text.includes(help));
    return line?.indexOf(help);
  });
  assert.is(new Set(starts).size, 1);
});

test("errors of a running command decide the exit status", async () => {
  const argv = ["train", "sdnet", "--data", "d"];
  behaviour = () => {
    throw new DataError("scan.nii", "header is truncated");
  };
  let result = await run(argv);
  assert.is(result.status, 1);
  assert.is(result.err, "voxgrad train: scan.nii: header is truncated [ERR_DATA]\n");

  behaviour = () => {
    throw new UsageError("key 'lr' is unknown");
  };
  result = await run(argv);
  assert.is(result.status, 2);
  assert.is(result.err, "voxgrad train: key 'lr' is unknown\nsee voxgrad train --help\n");

  behaviour = () => {
    throw new TypeError("a bug");
  };
  result = await run(argv);
  assert.is(result.status, 1);
  assert.match(result.err, /TypeError: a bug\n +at /);

  behaviour = () => {
    throw Object.assign(new Error("write EPIPE"), { code: "EPIPE" });
  };
  result = await run(argv);
  assert.is(result.status, 0);
  assert.is(result.err, "");

  behaviour = () => {
    mkdirSync("/dev/null/folder");
  };
  result = await run(argv);
  assert.is(result.status, 1);
  assert.is(result.err, "voxgrad train: /dev/null/folder: not a directory (ENOTDIR, mkdir)\n");

  behaviour = () => {
    throw new DOMException("aborted", "AbortError");
  };
  result = await run(argv, AbortSignal.abort());
  assert.is(result.status, 130);
  assert.is(result.err, "voxgrad train: stopped\n");

  behaviour = () => 1;
  assert.is((await run(argv)).status, 1);
});

test("an option with an optional value can stand alone, before others and at the end", () => {
  const options = {
    json: { type: "string", placeholder: "FILE", bare: "-", help: "" },
    set: { type: "string", help: "" },
  } as const;
  const json = (...argv: string[]) => parseArguments({ options, positionals: [] }, argv).options.json;
  assert.is(json(), undefined);
  assert.is(json("--json"), "-");
  assert.is(json("--json", "--set", "a"), "-");
  assert.is(json("--json", "-"), "-");
  assert.is(json("--json", "out.json"), "out.json");
  assert.is(json("--json=out.json"), "out.json");
  assert.is(optionUsage("json", options.json), "--json [FILE]");
});

test.run();
