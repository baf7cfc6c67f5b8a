import { getSystemErrorMap } from "node:util";
import { nearest, UsageError, VoxgradError } from "../errors.ts";
import { type Command, type Context, didYouMean, optionUsage } from "./arguments.ts";
import { paint, visibleWidth, type Writer } from "./style.ts";

/** Exit status of a command that Ctrl-C ended: what shells expect, so that `train && predict` goes no further. */
export const STOPPED = 130;

/**
 * Runs the command that `argv` (without node and script) names. Resolves to the exit status: 0 done, 1 failed, 2 the
 * command line could not be understood, 130 stopped by Ctrl-C. Never rejects: what went wrong is on `context.stderr`.
 */
export async function runCli(
  commands: readonly Command[],
  argv: readonly string[],
  context: Context,
): Promise<number> {
  let running: Command | undefined;
  try {
    const [first, ...rest] = argv;
    if (first === undefined) {
      context.stderr.write(overview(commands, context.stderr));
      return 2;
    }
    if (first === "--version" || first === "-v" || first === "-V") {
      context.stdout.write(`${context.version}\n`);
      return 0;
    }
    if (first === "help" || first === "--help" || first === "-h") {
      const text =
        rest.length === 0
          ? overview(commands, context.stdout)
          : commandHelp(find(commands, rest[0]), context.stdout);
      context.stdout.write(text);
      return 0;
    }
    running = find(commands, first);
    if (asksForHelp(rest)) {
      context.stdout.write(commandHelp(running, context.stdout));
      return 0;
    }
    return await running.execute(rest, context);
  } catch (error) {
    return report(error, running, context);
  }
}

function report(error: unknown, running: Command | undefined, { stderr, signal }: Context): number {
  // Whoever read our output has gone (`voxgrad summary vnet | head`): nothing is wrong, and nobody to tell.
  if (isSystemError(error) && error.code === "EPIPE") return 0;
  const name = running === undefined ? "voxgrad" : `voxgrad ${running.name}`;
  const label = paint(stderr, "red", `${name}:`);
  if (error instanceof UsageError) {
    stderr.write(`${label} ${error.message}\nsee ${name} --help\n`);
    return 2;
  }
  if (error instanceof VoxgradError) {
    stderr.write(`${label} ${error.message} [${error.code}]\n`);
    return 1;
  }
  if (isSystemError(error) && error.syscall !== undefined) {
    stderr.write(`${label} ${describeSystemError(error)}\n`);
    return 1;
  }
  if (signal.aborted && error instanceof Error && error.name === "AbortError") {
    stderr.write(`${label} stopped\n`);
    return STOPPED;
  }
  stderr.write(`${label} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return 1;
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error;
}

/** `/scans/a.nii: no space left on device (ENOSPC, write)`: what the operating system refused, without a stack. */
function describeSystemError({ code, syscall, path, errno, message }: NodeJS.ErrnoException): string {
  const reason = errno === undefined ? message : (getSystemErrorMap().get(errno)?.[1] ?? message);
  return `${path === undefined ? "" : `${path}: `}${reason} (${code}, ${syscall})`;
}

function asksForHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv.slice(0, end === -1 ? argv.length : end).some((word) => word === "--help" || word === "-h");
}

function find(commands: readonly Command[], name: string): Command {
  const command = commands.find((candidate) => candidate.name === name);
  if (command !== undefined) return command;
  const names = commands.map((candidate) => candidate.name);
  if (name.startsWith("-")) throw new UsageError(`unknown option ${name} before a command`);
  throw new UsageError(
    `there is no command '${name}' (commands: ${names.join(", ")})${didYouMean(nearest(name, names))}`,
  );
}

function overview(commands: readonly Command[], stream: Writer): string {
  const heading = (text: string) => paint(stream, "bold", text);
  return [
    "voxgrad trains and runs volumetric segmentation networks.",
    "",
    heading("Usage"),
    "  voxgrad COMMAND [options]",
    "",
    heading("Commands"),
    ...aligned(commands.map((command) => [command.name, command.summary])),
    "",
    "voxgrad COMMAND --help shows the options of a command and examples.",
    "",
  ].join("\n");
}

/** The `--help` text of one command: summary, usage, arguments, options aligned in two columns, examples. */
function commandHelp(command: Command, stream: Writer): string {
  const section = (title: string, lines: string[]) =>
    lines.length === 0 ? [] : [paint(stream, "bold", title), ...lines, ""];
  const positionals = command.positionals.map((spec): [string, string] => [
    spec.name.toUpperCase(),
    join(spec.help, spec.choices && `one of ${spec.choices.join(", ")}`),
  ]);
  const rest = command.rest === undefined ? [] : [[command.rest.name, command.rest.help] as const];
  const options = Object.entries(command.options).map(([name, spec]): [string, string] => [
    `${spec.short === undefined ? "    " : `-${spec.short}, `}${optionUsage(name, spec)}`,
    join(
      spec.help,
      // Without a placeholder the choices already stand in the left column.
      spec.placeholder && spec.choices && `one of ${spec.choices.join(", ")}`,
      spec.required && "required",
      spec.multiple && "repeatable",
      spec.default !== undefined && typeof spec.default !== "boolean" && `default ${spec.default}`,
    ),
  ]);
  return [
    command.summary,
    "",
    ...section("Usage", [`  voxgrad ${command.name} ${command.usage}`.trimEnd()]),
    ...section("Arguments", aligned([...positionals, ...rest])),
    ...section("Options", aligned([...options, ["-h, --help", "show this text"]])),
    ...section(
      "Notes",
      (command.notes ?? []).flatMap((note) => wrap(note, LINE_WIDTH - 2).map((line) => `  ${line}`)),
    ),
    ...section(
      "Examples",
      command.examples.map((example) => `  ${example}`),
    ),
  ].join("\n");
}

function join(help: string, ...notes: (string | false | undefined)[]): string {
  const told = notes.filter((note) => note !== false && note !== undefined && note !== "");
  return told.length === 0 ? help : `${help} (${told.join("; ")})`;
}

const LEFT_LIMIT = 30;
const LINE_WIDTH = 100;

/** Two columns; a long left text has a line of its own, and the right text wraps under itself. */
function aligned(rows: readonly (readonly [string, string])[]): string[] {
  const left = Math.max(
    ...rows.map(([text]) => visibleWidth(text)).filter((width) => width <= LEFT_LIMIT),
    4,
  );
  return rows.flatMap(([term, text]) => {
    const lines = wrap(text, LINE_WIDTH - left - 4);
    const own = visibleWidth(term) > left;
    const body = lines.map((line, i) => `  ${(i === 0 && !own ? term : "").padEnd(left)}  ${line}`);
    return own ? [`  ${term}`, ...body] : body;
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
