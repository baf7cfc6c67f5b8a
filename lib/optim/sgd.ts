import { gradients } from "../autograd/gradients.ts";
import { State } from "../graph/state.ts";
import type { Value } from "../graph/value.ts";
import type { Module } from "../nn/module.ts";
import { sgdStep, sgdVelocity } from "../ops/update.ts";

export interface SgdOptions {
  readonly momentum?: number;
  readonly weightDecay?: number;
  readonly nesterov?: boolean;
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
        const moved = sgdVelocity(velocity, slope, parameter, this.options);
        graph.assign(velocity, moved);
        graph.assign(parameter, sgdStep(parameter, moved, slope, learningRate, this.options));
      }
    });
  }
}
