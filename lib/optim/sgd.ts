import { gradients } from "../autograd/gradients.ts";
import { State } from "../graph/state.ts";
import type { Value } from "../graph/value.ts";
import type { Module } from "../nn/module.ts";
import { scale } from "../ops/arithmetic.ts";
import { sgdStep, sgdVelocity } from "../ops/update.ts";

export interface SgdOptions {
  readonly momentum?: number;
  readonly weightDecay?: number;
  readonly nesterov?: boolean;
  /** Whether weight decay also applies to parameters of one axis: biases, gamma and beta of norms. Default true. */
  readonly decayVectors?: boolean;
  /** What the learning rate is multiplied by for the parameter of a path; default 1 for all. */
  readonly rateOf?: (path: string) => number;
}

/**
 * Stochastic gradient descent with momentum and weight decay, as PyTorch defines them (Sutskever et al. 2013 for
 * Nesterov's form). Owns one velocity per parameter of its module.
 */
export class Sgd {
  private readonly module: Module;
  private readonly options: Required<SgdOptions>;
  private readonly velocities: Map<string, State>;

  constructor(module: Module, options: SgdOptions = {}) {
    this.module = module;
    this.options = {
      momentum: options.momentum ?? 0,
      weightDecay: options.weightDecay ?? 0,
      nesterov: options.nesterov ?? false,
      decayVectors: options.decayVectors ?? true,
      rateOf: options.rateOf ?? (() => 1),
    };
    const trained = new Set<State>(module.parameters());
    const named = [...module.states()].filter(([, state]) => trained.has(state));
    this.velocities = new Map(
      named.map(([path, { name, shape }]) => [path, new State(`${name}.velocity`, shape)]),
    );
  }

  /** Velocities by the path of their parameter, for checkpoints. */
  states(): ReadonlyMap<string, State> {
    return this.velocities;
  }

  /** Adds the backward pass of `loss` and one update with the scalar `learningRate` to the graph. */
  minimize(loss: Value, learningRate: Value): void {
    const { graph } = loss;
    const { momentum, nesterov, decayVectors, rateOf } = this.options;
    const states = this.module.states();
    const paths = [...this.velocities.keys()];
    const parameters = paths.map((path) => states.get(path) as State);
    const slopes = gradients(
      loss,
      parameters.map((parameter) => graph.read(parameter)),
    );
    graph.scope("sgd", () => {
      for (const [index, parameter] of parameters.entries()) {
        const velocity = this.velocities.get(paths[index]) as State;
        const slope = slopes[index];
        const weightDecay = decayVectors || parameter.shape.length > 1 ? this.options.weightDecay : 0;
        const factor = rateOf(paths[index]);
        const rate = factor === 1 ? learningRate : scale(learningRate, factor);
        const moved = sgdVelocity(velocity, slope, parameter, { momentum, weightDecay });
        graph.assign(velocity, moved);
        graph.assign(parameter, sgdStep(parameter, moved, slope, rate, { momentum, weightDecay, nesterov }));
      }
    });
  }
}
