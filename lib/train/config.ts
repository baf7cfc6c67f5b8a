import { z } from "zod";
import { isLabelMapping, type LabelMapping, labelMappingForm } from "../data/label_map.ts";
import { isOrientation } from "../data/orientation.ts";
import { nearest, UsageError } from "../errors.ts";
import type { Recipe } from "./recipes/recipe.ts";
import { expected } from "./expected.ts";
import { precisions } from "../runtime/device.ts";
import { commonDivisor, modelNamed, models } from "../models/index.ts";

const triple = (least: number) => {
  const extent = z.int().min(least);
  return z.tuple([extent, extent, extent], "expected three whole numbers along x, y, z");
};
const share = z.number().min(0).max(1);
const weight = z.number().min(0);

/** Every number of a training run. The file `config.json` of a run holds all of them, so it can be repeated. */
const configSchema = z.strictObject({
  /** Networks that learn together; SD-Net has `vnet` and `resvnet`. */
  networks: z.array(z.enum(Object.keys(models))).min(1),
  /** Classes, background included. */
  classes: z.int().min(2).max(255),
  inputChannels: z.int().min(1),
  /** Channels at full resolution. */
  baseChannels: z.int().min(1).max(128),
  /** Share of channels dropped before the head (and at V-Net's bottom). */
  dropout: share,
  /** DeepLabv3+ only: see `DeepLabOptions`. */
  outputStride: z.literal([8, 16]),
  aspp: z.enum(["added", "concatenated"]),
  decoderConvs: z.literal([1, 2]),

  /** The class that each value of a label file becomes; null takes the values as they are. */
  labelMap: z.custom<LabelMapping>(isLabelMapping, `expected ${labelMappingForm}, or null`).nullable(),
  /** What every volume is turned to as it is read, by its geometry: `file`, or where x, y and z lead, such as `LPS`. */
  orientation: z
    .string()
    .refine(
      (value) => value === "file" || isOrientation(value),
      'expected "file", or where x, y and z lead: one letter of L and R, of A and P, of S and I, such as "LPS"',
    ),
  /** Voxels along x, y, z as the files list them (after `orientation`); multiples of what the networks divide by. */
  patch: triple(1),
  /** Intensities below and above are clipped, in the file's units (HU for CT); null keeps all. */
  window: z
    .tuple([z.number(), z.number()], "expected [low, high], or null")
    .refine(([low, high]) => low < high, "expected [low, high] with low below high")
    .nullable(),
  normalize: z.enum(["zscore", "unit", "none"]),
  /** Share of labelled patches that are centred on a labelled structure; unlabelled ones are always uniform. */
  foreground: share,
  /** Axes mirrored at random, of "x", "y", "z". */
  flip: z.array(z.enum(["x", "y", "z"])),
  /** Largest random rotation about the z axis, in degrees. */
  rotate: z.number().min(0).max(180),
  /** Random contrast (a share) and brightness (in units of the normalised image), drawn for each network by itself. */
  jitter: share,
  /** Standard deviation of Gaussian noise on the normalised image, drawn for each network by itself. */
  noise: weight,
  /** Of convolutions, on an NVIDIA GPU; the CPU has f32 alone. */
  precision: z.enum(precisions),

  labeledPerBatch: z.int().min(1),
  /** Unlabelled patches in a batch; recipes that learn from labels alone ignore it. */
  unlabeledPerBatch: z.int().min(0),
  steps: z.int().min(1),
  seed: z
    .int()
    .min(0)
    .max(2 ** 31 - 1),
  learningRate: z.number().positive(),
  /**
   * `poly`: (1 - step / steps)^decayPower; `warmUpPoly`: linear from 0 over warmUpShare of the run, then `poly`; `step`:
   * divided by decayFactor every decayEvery steps.
   */
  schedule: z.enum(["poly", "warmUpPoly", "step", "constant"]),
  warmUpShare: share,
  decayPower: z.number().positive(),
  decayEvery: z.int().min(1),
  decayFactor: z.number().positive(),
  momentum: share,
  weightDecay: weight,
  nesterov: z.boolean(),
  /** Whether weight decay also applies to biases and to gamma and beta of batch norm. */
  decayVectors: z.boolean(),
  /** What the learning rate is multiplied by for parameters whose path begins so; the longest beginning counts. */
  rates: z.record(z.string(), weight),

  /** What labels teach: `crossEntropy` alone (cross pseudo supervision's eq. 1), or Dice loss as well. */
  labelLoss: z.enum(["crossEntropy", "crossEntropyDice"]),
  /** Denominator of the Dice loss: `squared` (Milletari et al. 2016) or `linear` (SD-Net eq. 5). */
  dice: z.enum(["squared", "linear"]),
  diceSmooth: weight,
  /** Weight of the loss on the voxels where the two networks disagree (SD-Net eq. 6 and 7). */
  differenceWeight: weight,
  /** `mse`, or the weighted cross-entropy of SD-Net's Table 2. */
  differenceLoss: z.enum(["mse", "crossEntropy"]),
  /** Weight of the pseudo-label loss when fully ramped up (SD-Net eq. 8; lambda of cross pseudo supervision). */
  unsupervisedWeight: weight,
  /** Share of the run over which that weight grows; 0 applies it whole from the start. */
  rampShare: share,
  /** Sharpening temperature T of the pseudo-labels (SD-Net Algorithm 1). */
  temperature: z.number().positive(),
  /**
   * What names the better network: Dice loss over the whole `batch`, or summed over its samples (Algorithm 1), or the `average` of
   * the batches so far, each counting 0.98 of the next, or that on the `validation` cases at the last checkpoint.
   */
  selector: z.enum(["batch", "sample", "average", "validation"]),
  /**
   * Decay of a running average of each network's weights (mean teacher), which then writes the pseudo-labels in its place; 0 keeps
   * none and lets the networks teach as they are.
   */
  teacherDecay: z.number().min(0).lt(1),
  /** Pseudo-labels count where their teacher gives its class at least this probability; 0 counts all. */
  confidence: share,
  /** The patches on which networks teach each other in cross pseudo supervision. */
  pseudoLabels: z.enum(["unlabeled", "all"]),
  /** Boxes by which unlabelled patches are mixed with each other in cross pseudo supervision; 0 mixes none. */
  cutMixBoxes: z.int().min(0).max(16),

  /**
   * Regular expression that finds in a case's id the group (patient) that it belongs to; cases of a group play one
   * part, and cases are counted in groups. null makes each case its own.
   */
  group: z.string().refine(isPattern, "expected a regular expression").nullable(),
  /** Gigabytes (2^30 bytes) of decoded cases that stay in memory; null takes half of what is free. The numbers do not depend on it. */
  cacheGB: z.number().min(0).nullable(),
  /** Folder for decoded cases that do not stay in memory, which runs may share; null decodes them again. Nor do they depend on it. */
  cacheFolder: z.string().min(1, "expected a folder, or null").nullable(),
  /** Labelled cases kept aside to choose the best checkpoint; with 0 the training loss chooses it. */
  validationCases: z.int().min(0),
  /** Steps between validations, checkpoints and looks at the training loss. */
  checkpointEvery: z.int().min(1),
  /** Batches of unlabelled patches over which batch-norm statistics are estimated again after training. */
  reestimateBatches: z.int().min(0),
});

export type Config = z.infer<typeof configSchema>;

const common: Config = {
  networks: ["vnet", "resvnet"],
  classes: 2,
  inputChannels: 1,
  baseChannels: 16,
  dropout: 0.5,
  outputStride: 16,
  aspp: "added",
  decoderConvs: 2,
  labelMap: null,
  orientation: "file",
  patch: [112, 112, 80],
  window: null,
  normalize: "zscore",
  foreground: 0.33,
  flip: ["x", "y", "z"],
  rotate: 15,
  jitter: 0,
  noise: 0,
  precision: "f32",
  labeledPerBatch: 2,
  unlabeledPerBatch: 2,
  steps: 6000,
  seed: 0,
  learningRate: 0.1,
  schedule: "poly",
  warmUpShare: 0.05,
  decayPower: 0.9,
  decayEvery: 2500,
  decayFactor: 10,
  momentum: 0.9,
  weightDecay: 1e-4,
  nesterov: false,
  decayVectors: true,
  rates: {},
  labelLoss: "crossEntropyDice",
  dice: "squared",
  diceSmooth: 1e-5,
  differenceWeight: 0.5,
  differenceLoss: "mse",
  unsupervisedWeight: 0.1,
  rampShare: 0.4,
  temperature: 0.1,
  selector: "batch",
  teacherDecay: 0,
  confidence: 0,
  pseudoLabels: "unlabeled",
  cutMixBoxes: 0,
  group: null,
  cacheGB: null,
  cacheFolder: null,
  validationCases: 0,
  checkpointEvery: 200,
  reestimateBatches: 0,
};

/**
 * The presets of `supervised` and `sdnet`; other recipes say what they change. `recommended`: what worked best in our measurements, with the losses of MCF (Wang et al. 2023), whose code behind
 * SD-Net's idea is public. `literal`: the numbers that the SD-Net paper prints; where it is silent, the simplest.
 */
export const presets: Readonly<Record<string, Config>> = {
  recommended: common,
  literal: {
    ...common,
    window: [0, 400],
    normalize: "unit",
    foreground: 0,
    steps: 1200,
    learningRate: 0.01,
    schedule: "step",
    decayEvery: 200,
    decayFactor: 10,
    dice: "linear",
    differenceWeight: 1,
    unsupervisedWeight: 1,
    rampShare: 0,
    selector: "sample",
  },
};

/** A setting that cannot be used; `setting` is its name. */
export class SettingError extends UsageError {
  readonly setting: string;

  constructor(setting: string, message: string) {
    super(message);
    this.setting = setting;
  }
}

/**
 * Settings by name over a preset, which a recipe may have changed, checked. Throws `SettingError` naming the setting, what
 * it takes and the nearest one, and `UsageError` where there is no such preset.
 */
export function makeConfig(
  preset: string,
  settings: Readonly<Record<string, unknown>>,
  recipe?: Pick<Recipe, "presets">,
): Config {
  if (presets[preset] === undefined)
    throw new UsageError(`unknown preset "${preset}"${didYouMean(preset, Object.keys(presets))}`);
  const base: Config = { ...presets[preset], ...recipe?.presets?.[preset] };
  for (const key of Object.keys(settings))
    if (!(key in base))
      throw new SettingError(key, `unknown setting "${key}"${didYouMean(key, Object.keys(base))}`);
  const result = configSchema.safeParse({ ...base, ...settings }, { error: expected });
  if (!result.success) {
    const { path, message } = result.error.issues[0];
    const found = path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown>)?.[key], {
      ...base,
      ...settings,
    });
    throw new SettingError(
      String(path[0]),
      `setting "${path.join(".")}": ${message}; found ${typeof found === "number" ? found : JSON.stringify(found)}`,
    );
  }
  const { networks, patch } = result.data;
  const divisor = commonDivisor(networks.map((name) => modelNamed(name)()));
  if (patch.some((extent, axis) => extent % divisor[axis] !== 0))
    throw new SettingError(
      "patch",
      `setting "patch": extents must be multiples of ${divisor.join("x")}, found ${patch.join("x")}`,
    );
  return result.data;
}

/** `key=value` as `--set` takes it: the value is JSON, `AxBxC`, or a bare word; a lone word makes a list of one. */
export function parseSetting(text: string): [string, unknown] {
  const equals = text.indexOf("=");
  if (equals < 1) throw new UsageError(`--set takes key=value, found "${text}"`);
  const key = text.slice(0, equals);
  const raw = text.slice(equals + 1);
  if (/^\d+(x\d+)+$/.test(raw)) return [key, raw.split("x").map(Number)];
  const isList = Array.isArray((common as Record<string, unknown>)[key]);
  try {
    return [key, JSON.parse(raw) as unknown];
  } catch {
    return [key, isList ? raw.split(",").filter((word) => word !== "") : raw];
  }
}

function isPattern(text: string): boolean {
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
}

function didYouMean(word: string, candidates: readonly string[]): string {
  const hint = nearest(word, candidates);
  return hint === undefined ? `; there are ${candidates.join(", ")}` : `, did you mean "${hint}"?`;
}
