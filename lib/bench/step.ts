import type { Plan, StepTimes } from "../compile/plan.ts";
import { disposeStates } from "../compile/states.ts";
import { commonDivisor, modelNamed, models } from "../models/index.ts";
import { Random } from "../random.ts";
import { makeConfig } from "../train/config.ts";
import { recipeNamed, recipes } from "../train/recipes/index.ts";
import { compileStep, makeLearners } from "../train/step.ts";
import { fillUniform } from "./fill.ts";
import { readList } from "./list.ts";
import type { Target } from "./target.ts";
import { type Contender, repeated } from "./turns.ts";

/** A whole training step on random patches: networks forward and back, losses, updates by SGD with momentum. */
export interface StepShape {
  readonly name: string;
  readonly recipe: string;
  readonly networks: readonly string[];
  /** Voxels along x, y, z. */
  readonly patch: readonly number[];
  /** Patches with labels, and without where the recipe takes them. */
  readonly labeled: number;
  readonly unlabeled: number;
  readonly baseChannels: number;
  readonly classes: number;
  readonly dropout: number;
}

const keys = ["recipe", "networks", "patch", "labeled", "unlabeled", "base", "classes", "dropout"];

/**
 * Reads a list of training steps: `NAME patch=XxYxZ [recipe=supervised] [networks=vnet] [labeled=2] [unlabeled=2]
 * [base=16] [classes=2] [dropout=0]`.
 *
 * @throws {DataError} naming the line that is not one.
 */
export function readStepShapes(file: string): StepShape[] {
  return readList(file, keys).map((entry) => {
    const recipe = entry.word("recipe", Object.keys(recipes), "supervised");
    const { unlabeled: takesUnlabeled, networks: count } = recipeNamed(recipe);
    const patch = entry.extents("patch", 3);
    const networks = entry.words("networks", Object.keys(models), "vnet");
    const divisor = commonDivisor(networks.map((name) => modelNamed(name)()));
    if (patch.some((extent, axis) => extent % divisor[axis] !== 0))
      entry.refuse(`patch: extents must be multiples of ${divisor.join("x")}`);
    if (count !== undefined && networks.length !== count)
      entry.refuse(`networks: recipe ${recipe} takes ${count}, found ${networks.length}`);
    return {
      name: entry.name,
      recipe,
      networks,
      patch,
      labeled: entry.integer("labeled", { fallback: 2 }),
      unlabeled: takesUnlabeled ? entry.integer("unlabeled", { fallback: 2 }) : 0,
      baseChannels: entry.integer("base", { fallback: 16 }),
      classes: entry.integer("classes", { fallback: 2, least: 2 }),
      dropout: entry.share("dropout", 0),
    };
  });
}

export interface PreparedStep extends Contender, Disposable {
  readonly plan: Plan;
  /** Milliseconds of each of `steps` steps. */
  run(steps: number): Promise<number[]>;
  /** Milliseconds of every kernel call in each of `steps` steps. */
  profile(steps: number): Promise<StepTimes[]>;
}

/** The step as training runs it, without augmentation, mixing and averages. Its time is what a caller waits: the batch is copied in. */
export async function prepareStep(
  shape: StepShape,
  { device, precision }: Target,
  signal: AbortSignal,
): Promise<PreparedStep> {
  const { recipe, networks, patch, labeled, unlabeled, baseChannels, classes, dropout } = shape;
  const settings = {
    networks,
    patch,
    labeledPerBatch: labeled,
    unlabeledPerBatch: unlabeled,
    baseChannels,
    classes,
    dropout,
    precision,
    flip: [],
    rotate: 0,
    jitter: 0,
    noise: 0,
    cutMixBoxes: 0,
    teacherDecay: 0,
  };
  const taught = recipeNamed(recipe);
  const config = makeConfig("recommended", settings, taught);
  const learners = makeLearners(config, taught);
  const plan = await compileStep(config, taught, learners, device);
  const voxels = patch[0] * patch[1] * patch[2];
  const random = new Random(1);
  const feed = {
    image: fillUniform(new Float32Array((labeled + unlabeled) * voxels)),
    labels: Uint8Array.from({ length: labeled * voxels }, () => random.below(classes)),
    learningRate: 0.01,
    unsupervisedWeight: 0.1,
  };
  let step = 0;
  const run = async (steps: number) => {
    const times: number[] = [];
    while (times.length < steps) {
      const began = performance.now();
      await plan.run({ ...feed, key: Int32Array.of(0, step++) }, { signal });
      times.push(performance.now() - began);
    }
    return times;
  };
  const dispose = () => {
    plan.dispose();
    disposeStates(device, learners.everything.values());
  };
  const profile = (steps: number) => plan.profile({ ...feed, key: Int32Array.of(0, 0) }, steps, { signal });
  return { ...repeated("voxgrad", run), plan, run, profile, [Symbol.dispose]: dispose };
}
