import { compile } from "../compile/compile.ts";
import type { Plan } from "../compile/plan.ts";
import { UsageError } from "../errors.ts";
import type { Graph } from "../graph/graph.ts";
import { State } from "../graph/state.ts";
import type { Value } from "../graph/value.ts";
import { modelNamed, type Network } from "../models/index.ts";
import { nameStates } from "../nn/module.ts";
import { randomFlip, randomIntensity, randomRotate } from "../ops/augment.ts";
import { gaussianNoise } from "../ops/dropout.ts";
import { ema } from "../ops/update.ts";
import { Sgd } from "../optim/sgd.ts";
import type { Device } from "../runtime/device.ts";
import type { StatePaths } from "./checkpoint.ts";
import type { Config } from "./config.ts";
import { type Recipe, usesMixMask } from "./recipes/index.ts";

/** The networks of a run with all that training keeps about them. */
export interface Learners {
  readonly networks: readonly Network[];
  readonly optimizers: readonly Sgd[];
  /** Running averages of the networks, where `teacherDecay` asks for them. */
  readonly averages?: readonly Network[];
  /** What the recipe keeps from step to step. */
  readonly numbers: StatePaths;
  /** Weights and statistics, as prediction needs them. */
  readonly weights: StatePaths;
  /** Those and the optimizers' velocities, as resuming needs them. */
  readonly everything: StatePaths;
}

/** What the paths of running averages begin with in a checkpoint. */
export const averagePrefix = "average.";

/** Builds the networks of a configuration; two of one kind get paths of their own and different weights. */
function makeNetworks(config: Config): Network[] {
  return config.networks.map((name, index) => {
    const network = modelNamed(name)({ ...config, seed: config.seed * config.networks.length + index });
    const repeated = config.networks.filter((other) => other === name).length > 1;
    return repeated ? nameStates(network, `${name}${index + 1}`) : network;
  });
}

/** All that a run keeps. Without a recipe, what belongs to it is left out; its networks are the same. */
export function makeLearners(config: Config, recipe?: Recipe): Learners {
  const networks = makeNetworks(config);
  const averages =
    config.teacherDecay === 0
      ? undefined
      : makeNetworks(config).map((network) => nameStates(network, `${averagePrefix}${network.path}`));
  const rateOf = rateByPath(networks, config.rates);
  const optimizers = networks.map((network) => new Sgd(network, { ...config, rateOf }));
  const weights = new Map(networks.flatMap((network) => prefixed(network.path, network.states())));
  const velocities = networks.flatMap((network, index) =>
    prefixed(`velocity.${network.path}`, optimizers[index].states()),
  );
  const averaged = (averages ?? []).flatMap((network) => prefixed(network.path, network.states()));
  const names = recipe?.numbers?.(config) ?? [];
  const numbers = new Map(names.map((name) => [name, new State(`recipe.${name}`, [])]));
  const everything = new Map([...weights, ...velocities, ...averaged, ...prefixed("recipe", numbers)]);
  return { networks, optimizers, averages, numbers, weights, everything };
}

/** Factors by the beginnings of paths; throws `UsageError` for one that no parameter's path begins with. */
function rateByPath(networks: readonly Network[], rates: Config["rates"]): (path: string) => number {
  const paths = networks.flatMap((network) => [...network.states().keys()]);
  const starts = Object.keys(rates).sort((a, b) => b.length - a.length);
  for (const start of starts)
    if (!paths.some((path) => path.startsWith(start))) {
      const known = [...new Set(paths.map((path) => path.split(".")[0]))].join(", ");
      throw new UsageError(
        `setting "rates": no parameter's path begins with "${start}"; they begin with ${known}`,
      );
    }
  return (path) => {
    const start = starts.find((each) => path.startsWith(each));
    return start === undefined ? 1 : rates[start];
  };
}

function prefixed<T>(prefix: string, states: ReadonlyMap<string, T>): [string, T][] {
  return [...states].map(([path, state]) => [`${prefix}.${path}`, state]);
}

/**
 * One training step as one plan: augmentation, every network forward and back, the recipe's losses, all updates.
 * Inputs: `image`, `labels`, `key` (seed and step), `learningRate`, `unsupervisedWeight`, and `mixMask` where
 * `usesMixMask` says so, and `teacherDecay` with a setting of that name.
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
  { networks, optimizers, averages, numbers }: Learners,
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
  if (averages !== undefined) follow(averages, networks, graph.input("teacherDecay", []));
  const result = recipe.step({
    config,
    networks,
    averages,
    mixMask,
    mode: { training: true, key },
    ...batch,
    views: networks.map((_, index) => viewOf(batch.image, key, index, config)),
    unsupervisedWeight,
    number: (name) => numbers.get(name) as State,
  });
  for (const [index, loss] of result.losses.entries()) optimizers[index].minimize(loss, learningRate);
  const losses = networks.map(({ path }, index) => [`loss.${path}`, result.losses[index]] as const);
  return { ...Object.fromEntries(losses), ...result.metrics };
}

/** Draws the averages, statistics included, to the networks as the step finds them (Tarvainen and Valpola 2017, eq. 2). */
function follow(averages: readonly Network[], networks: readonly Network[], decay: Value): void {
  const { graph } = decay;
  graph.scope("average", () => {
    for (const [index, network] of networks.entries()) {
      const own = averages[index].states();
      for (const [path, state] of network.states()) {
        const average = own.get(path) as State;
        graph.assign(average, ema(average, state, { decay }));
      }
    }
  });
}

/** The image as one network sees it, with contrast, brightness and noise that no other one sees. */
function viewOf(image: Value, key: Value, index: number, { jitter, noise }: Config): Value {
  let view = image;
  if (jitter > 0)
    view = randomIntensity(view, key, { contrast: jitter, brightness: jitter, stream: 1000 + 2 * index });
  if (noise > 0) view = gaussianNoise(view, key, { stddev: noise, stream: 1001 + 2 * index });
  return view;
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
