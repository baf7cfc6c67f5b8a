import { readFileSync } from "node:fs";
import { DataError, nearest } from "../errors.ts";

/** One line of a list of things to measure. Each `take` names the file and the line when it is not content. */
export class Entry {
  readonly name: string;
  private readonly place: string;
  private readonly file: string;
  private readonly fields: Map<string, string>;

  constructor(file: string, line: number, text: string, keys: readonly string[]) {
    this.file = file;
    this.place = `line ${line}`;
    const [name, ...words] = text.split(/\s+/);
    this.name = name;
    this.fields = new Map();
    if (name.includes("=")) this.refuse(`expected a name before the fields, found "${name}"`);
    for (const word of words) {
      const [key, value, ...rest] = word.split("=");
      if (!keys.includes(key)) {
        const hint = nearest(key, keys);
        const there = hint === undefined ? `; there are ${keys.join(", ")}` : `; did you mean ${hint}?`;
        this.refuse(`unknown field "${key}"${there}`);
      }
      if (this.fields.has(key)) this.refuse(`${key} is given twice`);
      if (value === undefined || value === "" || rest.length > 0)
        this.refuse(`expected ${key}=VALUE, found "${word}"`);
      this.fields.set(key, value);
    }
  }

  refuse(why: string): never {
    throw new DataError(this.file, `${this.place}: ${why}`);
  }

  /** `AxBxC` as whole numbers; one number stands for all of them where `spread` is set. */
  extents(key: string, count: number, options: { least?: number; fallback?: number; spread?: boolean } = {}) {
    const { least = 1, fallback, spread = false } = options;
    const text = this.fields.get(key);
    if (text === undefined) {
      if (fallback === undefined) return this.refuse(`${key}= is missing`);
      return Array.from({ length: count }, () => fallback);
    }
    const numbers = text.split("x").map(Number);
    const list = spread && numbers.length === 1 ? Array.from({ length: count }, () => numbers[0]) : numbers;
    const good = /^\d+(x\d+)*$/.test(text) && list.length === count;
    if (!good || list.some((number) => number < least || !Number.isSafeInteger(number))) {
      const form = count === 1 ? "a whole number" : `${count} whole numbers such as ${example(count, least)}`;
      const most = least > 0 ? ` from ${least}` : "";
      this.refuse(`${key}: expected ${spread ? "one or " : ""}${form}${most}, found "${text}"`);
    }
    return list;
  }

  integer(key: string, options: { least?: number; fallback?: number } = {}): number {
    return this.extents(key, 1, options)[0];
  }

  share(key: string, fallback: number): number {
    const text = this.fields.get(key);
    const value = text === undefined ? fallback : Number(text);
    if (!(value >= 0 && value < 1))
      this.refuse(`${key}: expected a number from 0 to below 1, found "${text}"`);
    return value;
  }

  word<T extends string>(key: string, choices: readonly T[], fallback: T): T {
    const text = this.fields.get(key) ?? fallback;
    const found = choices.find((choice) => choice === text);
    return found ?? this.refuse(`${key}: expected one of ${choices.join(", ")}, found "${text}"`);
  }

  /** Words between commas. */
  words(key: string, choices: readonly string[], fallback: string): string[] {
    const list = (this.fields.get(key) ?? fallback).split(",");
    const wrong = list.find((word) => !choices.includes(word));
    if (wrong !== undefined) this.refuse(`${key}: expected some of ${choices.join(", ")}, found "${wrong}"`);
    return list;
  }
}

function example(count: number, least: number): string {
  return Array.from({ length: count }, () => Math.max(least, 2)).join("x");
}

/**
 * The entries of a text file, `NAME key=value ...` on each line; empty lines and whatever follows `#` do not count.
 *
 * @throws {DataError} naming the line, when a line is no entry, a field is not in `keys`, a name comes twice, or there are none.
 */
export function readList(file: string, keys: readonly string[]): Entry[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new DataError(file, `cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
  }
  const entries: Entry[] = [];
  const names = new Set<string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const content = line.replace(/#.*/, "").trim();
    if (content === "") continue;
    const entry = new Entry(file, index + 1, content, keys);
    if (names.has(entry.name)) entry.refuse(`a second entry is called ${entry.name}`);
    names.add(entry.name);
    entries.push(entry);
  }
  if (entries.length === 0) throw new DataError(file, "expected lines of NAME key=value ..., found none");
  return entries;
}
