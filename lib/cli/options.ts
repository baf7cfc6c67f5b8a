import { DataError, UsageError } from "../errors.ts";
import { type Device, deviceNames, type Precision, precisions } from "../runtime/device.ts";
import type { Triple } from "../data/volume.ts";
import { endings, imageFiles, type Stems } from "../data/files.ts";
import type { OptionSpec } from "./arguments.ts";

/** Options that several commands have. */
export const deviceOption = {
  type: "string",
  choices: deviceNames,
  default: "auto",
  help: "where to compute; emulator runs the CUDA kernels on the processor, for tests",
} as const satisfies OptionSpec;

export const precisionOption = {
  type: "string",
  choices: precisions,
  help: "of convolutions: f32, the default, or on an NVIDIA GPU also tf32 and bf16, which stores activations in 16 bits",
} as const satisfies OptionSpec;

export const jsonOption = {
  type: "boolean",
  help: "print JSON instead of a table",
} as const satisfies OptionSpec;

/** What commands print of where and how they compute. */
export const deviceLine = (device: Device, precision: Precision = "f32"): string =>
  `device    ${device.describe()}${precision === "f32" ? "" : `; convolutions in ${precision}`}`;

/** `112x112x80` as three whole numbers, in the axis order of the files. */
export function parseSize(option: string, text: string): Triple {
  const parts = text.split("x").map(Number);
  if (!/^\d+(x\d+){2}$/.test(text) || parts.some((extent) => extent < 1))
    throw new UsageError(
      `${option} takes three positive whole numbers along x, y, z, such as 112x112x80; found '${text}'`,
    );
  return [parts[0], parts[1], parts[2]];
}

/** An integer option that must not be below `least`. */
export function atLeast(option: string, value: number, least: number): number {
  if (value < least) throw new UsageError(`${option} must be ${least} or more, found ${value}`);
  return value;
}

/** Words as a POSIX shell reads them back. */
export function shellCommand(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(" ");
}

/** The NIfTI files or PNG slices of a folder by name without ending, at least one. */
export async function volumesIn(folder: string): Promise<Stems> {
  const files = await imageFiles(folder);
  if (files.size === 0)
    throw new DataError(
      folder,
      `expected ${endings}, found none in this folder (a data folder keeps them in images/ and labels/)`,
    );
  return files;
}
