import { parseArgs } from "node:util";
import { nearest, UsageError } from "../errors.ts";
import type { Writer } from "./style.ts";

/** What a command is run in; a test passes writers and a signal of its own. */
export interface Context {
  stdout: Writer;
  stderr: Writer;
  /** Aborted by Ctrl-C: finish the step, save, return. */
  signal: AbortSignal;
  /** Version of the package, for `--version`. */
  version: string;
}

/** One option, keyed by its long name as it is typed (`labeled-cases`). */
export interface OptionSpec {
  type: "string" | "boolean" | "number" | "integer";
  /** One letter: `-o`. */
  short?: string;
  help: string;
  /** What stands for the value in the help text: `DIR`, `N`. */
  placeholder?: string;
  choices?: readonly string[];
  /** A boolean without a default is false; with default true, `--no-NAME` turns it off. */
  default?: string | number | boolean;
  /** May be given again and again; the value is an array, empty when it is absent. */
  multiple?: boolean;
  /** Absence is a UsageError, and the value is never undefined. */
  required?: boolean;
  /** What the option stands for when it is given without a value; the value is then optional (text only). */
  bare?: string;
}

export interface PositionalSpec {
  name: string;
  help: string;
  required: boolean;
  choices?: readonly string[];
}

type OptionSpecs = Readonly<Record<string, OptionSpec>>;
type CamelCase<S extends string> = S extends `${infer A}-${infer B}` ? `${A}${Capitalize<CamelCase<B>>}` : S;
type Choice<S> = S extends { choices: readonly (infer C)[] } ? C : string;
type Scalar<S extends OptionSpec> = S["type"] extends "boolean"
  ? boolean
  : S["type"] extends "string"
    ? Choice<S>
    : number;
type OptionValue<S extends OptionSpec> = S extends { multiple: true }
  ? Scalar<S>[]
  : S extends { type: "boolean" } | { required: true } | { default: string | number }
    ? Scalar<S>
    : Scalar<S> | undefined;
type PositionalValue<S extends PositionalSpec> = S["required"] extends true
  ? Choice<S>
  : Choice<S> | undefined;

/** Parsed options by camelCase name (`labeled-cases` is `labeledCases`) and positionals by name. */
export interface Arguments<O extends OptionSpecs, P extends readonly PositionalSpec[]> {
  options: { [K in keyof O & string as CamelCase<K>]: OptionValue<O[K]> };
  positionals: { [S in P[number] as S["name"]]: PositionalValue<S> };
  /** The words behind `--`, for a command that has a `rest`. */
  rest: readonly string[];
}

interface CommandBase {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** What follows `voxgrad NAME` in the first line of the help: `RECIPE --data DIR --out RUN [options]`. */
  usage: string;
  /** Whole command lines that work when copied. */
  examples: readonly string[];
  /** What the words behind `--` are, for a command that takes some; elsewhere `--` only ends the options. */
  rest?: { readonly name: string; readonly help: string };
  /** Sentences below the options: what a user must know that fits no single option. */
  notes?: readonly string[];
}

export interface CommandDefinition<O extends OptionSpecs, P extends readonly PositionalSpec[]>
  extends CommandBase {
  options: O;
  positionals: P;
  /** Resolves to nothing, or to the exit status where it is not 0. */
  run(args: Arguments<O, P>, context: Context): Promise<number | void> | number | void;
}

/** A command whose argument types are closed over, so that commands of any kind fit into one list. */
export interface Command extends CommandBase {
  options: OptionSpecs;
  positionals: readonly PositionalSpec[];
  /** Parses `argv` and runs. Throws UsageError before anything has happened when `argv` cannot be understood. */
  execute(argv: readonly string[], context: Context): Promise<number>;
}

/** Makes a command out of its definition; the types of `args` in `run` follow from `options` and `positionals`. */
export function defineCommand<const O extends OptionSpecs, const P extends readonly PositionalSpec[]>(
  definition: CommandDefinition<O, P>,
): Command {
  return {
    ...definition,
    async execute(argv, context) {
      const end = definition.rest === undefined ? -1 : argv.indexOf("--");
      const args = parseArguments(definition, end < 0 ? argv : argv.slice(0, end));
      const rest = end < 0 ? [] : argv.slice(end + 1);
      return (await definition.run({ ...args, rest } as unknown as Arguments<O, P>, context)) ?? 0;
    },
  };
}

type Value = string | number | boolean;
interface Parsed {
  options: Record<string, Value | Value[] | undefined>;
  positionals: Record<string, string | undefined>;
}

/**
 * Reads `argv` (without the command's name) against the specs. Throws UsageError on an unknown option or choice (naming
 * the nearest right one), a missing or malformed value, and a missing or surplus positional.
 */
export function parseArguments(
  { options: specs, positionals: wanted }: { options: OptionSpecs; positionals: readonly PositionalSpec[] },
  argv: readonly string[],
): Parsed {
  const { tokens } = parseArgs({
    args: fillBare(specs, argv),
    options: Object.fromEntries(
      Object.entries(specs).map(([name, spec]) => [
        name,
        {
          type: spec.type === "boolean" ? "boolean" : "string",
          ...(spec.short === undefined ? {} : { short: spec.short }),
        } as const,
      ]),
    ),
    strict: false,
    tokens: true,
  });
  const given = new Map<string, Value[]>();
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const { name, value } = readOption(specs, token);
    given.set(name, [...(given.get(name) ?? []), value]);
  }
  const options: Parsed["options"] = {};
  for (const [name, spec] of Object.entries(specs)) {
    const values = given.get(name) ?? (spec.default === undefined ? [] : [spec.default]);
    if (spec.required && values.length === 0) throw new UsageError(`${optionUsage(name, spec)} is required`);
    if (!spec.multiple && values.length > 1)
      throw new UsageError(`--${name} is given ${values.length} times`);
    options[camelCase(name)] = spec.multiple
      ? values
      : (values[0] ?? (spec.type === "boolean" ? false : undefined));
  }
  return { options, positionals: readPositionals(wanted, words) };
}

/** Gives options that were typed without their optional value the one they stand for. */
function fillBare(specs: OptionSpecs, argv: readonly string[]): string[] {
  const end = argv.indexOf("--");
  return argv.map((word, i) => {
    const bare = word.startsWith("--") ? specs[word.slice(2)]?.bare : undefined;
    if (bare === undefined || (end >= 0 && i > end)) return word;
    const next = argv[i + 1];
    const alone = next === undefined || (next.startsWith("-") && next !== "-");
    return alone ? `${word}=${bare}` : word;
  });
}

interface OptionToken {
  name: string;
  rawName: string;
  value?: string;
  inlineValue?: boolean;
}

function readOption(specs: OptionSpecs, token: OptionToken): { name: string; value: Value } {
  const { rawName, value } = token;
  const negated = token.name.startsWith("no-") && specs[token.name.slice(3)]?.type === "boolean";
  const name = negated && !Object.hasOwn(specs, token.name) ? token.name.slice(3) : token.name;
  if (!Object.hasOwn(specs, name)) throw unknownOption(specs, token);
  const spec = specs[name];
  if (spec.type === "boolean") {
    if (value !== undefined) throw new UsageError(`${rawName} takes no value, found '${value}'`);
    return { name, value: name === token.name };
  }
  // `--out --seed 3` forgot the value of --out; `--shift -3` did not.
  const isNegativeNumber =
    spec.type !== "string" && value !== undefined && value !== "" && !Number.isNaN(Number(value));
  const swallowed = !token.inlineValue && value?.startsWith("-") && value.length > 1 && !isNegativeNumber;
  if (value === undefined || value === "" || swallowed) {
    throw new UsageError(`${rawName} needs a value: ${optionUsage(name, spec)}`);
  }
  return {
    name,
    value:
      spec.type === "string" ? checkChoice(rawName, value, spec.choices) : toNumber(rawName, value, spec),
  };
}

function toNumber(rawName: string, text: string, spec: OptionSpec): number {
  const value = Number(text);
  const integer = spec.type === "integer";
  if (text.trim() === "" || !Number.isFinite(value) || (integer && !Number.isSafeInteger(value))) {
    throw new UsageError(`${rawName} needs ${integer ? "an integer" : "a number"}, found '${text}'`);
  }
  checkChoice(rawName, String(value), spec.choices);
  return value;
}

function readPositionals(wanted: readonly PositionalSpec[], words: readonly string[]): Parsed["positionals"] {
  if (words.length > wanted.length) {
    const most = wanted.length === 0 ? "none" : wanted.map((spec) => spec.name.toUpperCase()).join(" ");
    throw new UsageError(
      `unexpected argument '${words[wanted.length]}' (arguments of this command: ${most})`,
    );
  }
  const values: Parsed["positionals"] = {};
  for (const [i, spec] of wanted.entries()) {
    const label = spec.name.toUpperCase();
    if (i < words.length) {
      values[spec.name] = checkChoice(label, words[i], spec.choices);
    } else if (spec.required) {
      const choices = spec.choices === undefined ? spec.help : `one of ${spec.choices.join(", ")}`;
      throw new UsageError(`${label} is missing: ${choices}`);
    }
  }
  return values;
}

function checkChoice(label: string, value: string, choices: readonly string[] | undefined): string {
  if (choices === undefined || choices.includes(value)) return value;
  // Numbers are not misspelt.
  const words = choices.filter((choice) => Number.isNaN(Number(choice)));
  throw new UsageError(
    `${label} cannot be '${value}': expected one of ${choices.join(", ")}${didYouMean(nearest(value, words))}`,
  );
}

function unknownOption(specs: OptionSpecs, { name, rawName }: OptionToken): UsageError {
  const isShort = !rawName.startsWith("--");
  const near = isShort ? undefined : nearest(name, [...Object.keys(specs), "help"]);
  return new UsageError(`unknown option ${rawName}${didYouMean(near && `--${near}`)}`);
}

/** ` - did you mean X?`, or nothing. */
export function didYouMean(candidate: string | undefined): string {
  return candidate === undefined || candidate === "" ? "" : `; did you mean ${candidate}?`;
}

/** `-o, --out DIR` without the short form: `--out DIR`. */
export function optionUsage(name: string, spec: OptionSpec): string {
  if (spec.type === "boolean") return spec.default === true ? `--no-${name}` : `--${name}`;
  const fallback = spec.type === "string" ? "TEXT" : "N";
  const value = spec.placeholder ?? spec.choices?.join("|") ?? fallback;
  return spec.bare === undefined ? `--${name} ${value}` : `--${name} [${value}]`;
}

function camelCase(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
