import { compile } from "../compile/compile.ts";
import type { Plan } from "../compile/plan.ts";
import { commonDivisor, type Network } from "../models/index.ts";
import { add, scale } from "../ops/arithmetic.ts";
import { softmax } from "../ops/softmax.ts";
import type { Device, Precision } from "../runtime/device.ts";

/** Class probabilities of patches, averaged over one or more networks; plans are kept by batch shape. */
export class Predictor {
  readonly networks: readonly Network[];
  readonly classes: number;
  /** What extents along x, y, z must be multiples of. */
  readonly divisor: readonly [x: number, y: number, z: number];
  private readonly device: Device;
  private readonly precision: Precision;
  private readonly plans = new Map<string, Promise<Plan<"probabilities">>>();

  constructor(networks: readonly Network[], device: Device, precision: Precision = "f32") {
    this.networks = networks;
    this.device = device;
    this.precision = precision;
    this.classes = networks[0].classes;
    this.divisor = commonDivisor(networks);
  }

  /** `image` is `[count, z, y, x]`; resolves to `[count, z, y, x, classes]`. */
  async run(
    image: Float32Array,
    shape: readonly [count: number, z: number, y: number, x: number],
    signal?: AbortSignal,
  ): Promise<Float32Array> {
    const plan = await this.planFor(shape);
    const { probabilities } = await plan.run({ image }, { signal });
    return probabilities as Float32Array;
  }

  private planFor(shape: readonly number[]): Promise<Plan<"probabilities">> {
    const key = shape.join("x");
    let plan = this.plans.get(key);
    if (plan === undefined) {
      plan = compile(
        (graph) => {
          const image = graph.input("image", [...shape, 1]);
          const each = this.networks.map((network) => softmax(network.apply(image)));
          const total = each.reduce((left, right) => add(left, right));
          return { probabilities: each.length === 1 ? total : scale(total, 1 / each.length) };
        },
        { device: this.device, precision: this.precision },
      );
      this.plans.set(key, plan);
    }
    return plan;
  }

  /** Gives the plans' memory back. */
  async dispose(): Promise<void> {
    for (const plan of this.plans.values()) (await plan).dispose();
    this.plans.clear();
  }
}
