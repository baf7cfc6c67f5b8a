import util from "node:util";

/** Where a command writes: a part of `NodeJS.WriteStream` that a test can stand in for. */
export interface Writer {
  write(text: string): unknown;
  /** True on a terminal: lines may be redrawn and coloured. */
  readonly isTTY?: boolean;
  /** Width of the terminal in characters. */
  readonly columns?: number;
}

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "blue" | "cyan" | "magenta";

/** `text` in the given style where `stream` is a terminal and NO_COLOR is unset; unchanged elsewhere. */
export function paint(stream: Writer, style: Style, text: string): string {
  if (stream.isTTY !== true || process.env.NO_COLOR !== undefined) return text;
  // styleText came with Node 20.12. It must not look at process.stdout: the stream asked about may be stderr.
  return util.styleText?.(style, text, { validateStream: false }) ?? text;
}

/** Number of terminal columns that `text` takes, without its colour codes. */
export function visibleWidth(text: string): number {
  return [...util.stripVTControlCharacters(text)].length;
}
