import { compile } from "../compile/compile.ts";
import type { Plan } from "../compile/plan.ts";
import type { Graph } from "../graph/graph.ts";
import type { Value } from "../graph/value.ts";
import { modelNamed, type Network } from "../models/index.ts";
import { nameStates } from "../nn/module.ts";
import { randomFlip, randomRotate } from "../ops/augment.ts";
import { Sgd } from "../optim/sgd.ts";
import type { Device } from "../runtime/device.ts";
import type { StatePaths } from "./checkpoint.ts";
import type { Config } from "./config.ts";
import { type Recipe, usesMixMask } from "./recipes/index.ts";

/** The networks of a run with all that training keeps about them. */
export interface Learners {
  readonly networks: readonly Network[];
  readonly optimizers: readonly Sgd[];
  /** Weights and statistics, as prediction needs them. */
  readonly weights: StatePaths;
  /** Those and the optimizers' velocities, as resuming needs them. */
  readonly everything: StatePaths;
}

/** Builds the networks of a configuration; two of one kind get paths of their own and different weights. */
export function makeLearners(config: Config): Learners {
  const networks = config.networks.map((name, index) => {
    const network = modelNamed(name)({ ...config, seed: config.seed * config.networks.length + index });
    const repeated = config.networks.filter((other) => other === name).length > 1;
    return repeated ? nameStates(network, `${name}${index + 1}`) : network;
  });
  const optimizers = networks.map((network) => new Sgd(network, config));
  const weights = new Map(networks.flatMap((network) => prefixed(network.path, network.states())));
  const velocities = networks.flatMap((network, index) =>
    prefixed(`velocity.${network.path}`, optimizers[index].states()),
  );
  return { networks, optimizers, weights, everything: new Map([...weights, ...velocities]) };
}

function prefixed<T>(prefix: string, states: ReadonlyMap<string, T>): [string, T][] {
  return [...states].map(([path, state]) => [`${prefix}.${path}`, state]);
}

/**
 * One training step as one plan: augmentation, every network forward and back, the recipe's losses, all updates.
 * Inputs: `image`, `labels`, `key` (seed and step), `learningRate`, `unsupervisedWeight`, and `mixMask` where
 * `usesMixMask` says so.
 */
export async function compileStep(
  config: Config,
  recipe: Recipe,
  learners: Learners,
  device: Device,
): Promise<Plan> {
  return compile((graph) => traceStep(graph, config, recipe, learners), {
    device,
    precision: config.precision,
  });
}

/** The step as a graph: what it returns are the plan's outputs. */
export function traceStep(
  graph: Graph,
  config: Config,
  recipe: Recipe,
  { networks, optimizers }: Learners,
): Record<string, Value> {
  const [x, y, z] = config.patch;
  const count = config.labeledPerBatch + (recipe.unlabeled ? config.unlabeledPerBatch : 0);
  const key = graph.input("key", [2], "i32");
  const learningRate = graph.input("learningRate", []);
  const unsupervisedWeight = graph.input("unsupervisedWeight", []);
  const batch = augment(
    graph.input("image", [count, z, y, x, config.inputChannels]),
    graph.input("labels", [config.labeledPerBatch, z, y, x], "u8"),
    key,
    config,
  );
  const { unlabeledPerBatch } = config;
  const mixMask = usesMixMask(recipe, config)
    ? graph.input("mixMask", [unlabeledPerBatch, z, y, x], "u8")
    : undefined;
  const result = recipe.step({
    config,
    networks,
    mixMask,
    mode: { training: true, key },
    ...batch,
    unsupervisedWeight,
  });
  for (const [index, loss] of result.losses.entries()) optimizers[index].minimize(loss, learningRate);
  const losses = networks.map(({ path }, index) => [`loss.${path}`, result.losses[index]] as const);
  return { ...Object.fromEntries(losses), ...result.metrics };
}

const axisOf = { x: 3, y: 2, z: 1 } as const;

/** Random flips and rotation of image and labels alike, drawn anew at every step from the key. */
function augment(
  image: Value,
  labels: Value,
  key: Value,
  { flip, rotate }: Config,
): { image: Value; labels: Value } {
  const axes = flip.map((axis) => axisOf[axis]);
  let result = { image, labels };
  if (axes.length > 0) {
    const options = { axes, stream: 1 };
    result = {
      image: randomFlip(result.image, key, options),
      labels: randomFlip(result.labels, key, options),
    };
  }
  if (rotate > 0) {
    const options = { degrees: rotate, plane: axisOf.z, stream: 2 };
    result = {
      image: randomRotate(result.image, key, options),
      labels: randomRotate(result.labels, key, options),
    };
  }
  return result;
}
