import { compile } from "../compile/compile.ts";
import type { Plan } from "../compile/plan.ts";
import { commonDivisor, type Network } from "../models/index.ts";
import { argmax } from "../ops/argmax.ts";
import type { Device, Precision } from "../runtime/device.ts";
import { meanProbabilities } from "./mean_probabilities.ts";

type Output = "probabilities" | "labels";
type PatchShape = readonly [count: number, z: number, y: number, x: number];

export interface PredictorOptions {
  /** Of convolutions; default f32. */
  readonly precision?: Precision;
  /** Hears of every plan once it is made: of each batch shape its own. */
  readonly onPlan?: (plan: Plan) => void;
}

/** Class probabilities of patches, averaged over one or more networks; plans are kept by batch shape. */
export class Predictor {
  readonly networks: readonly Network[];
  readonly classes: number;
  /** What extents along x, y, z must be multiples of. */
  readonly divisor: readonly [x: number, y: number, z: number];
  /** Whether all networks segment every slice (of constant z) by itself. */
  readonly slices: boolean;
  private readonly device: Device;
  private readonly options: PredictorOptions;
  private readonly plans = new Map<string, Promise<Plan<"result">>>();

  constructor(networks: readonly Network[], device: Device, options: PredictorOptions = {}) {
    this.networks = networks;
    this.device = device;
    this.options = options;
    this.classes = networks[0].classes;
    this.divisor = commonDivisor(networks);
    this.slices = networks.every(({ slices }) => slices);
  }

  /** `image` is `[count, z, y, x]`; resolves to `[count, z, y, x, classes]`. */
  async run(image: Float32Array, shape: PatchShape, signal?: AbortSignal): Promise<Float32Array> {
    return (await this.compute("probabilities", image, shape, signal)) as Float32Array;
  }

  /** The class of the largest averaged probability, the first of equals: `[count, z, y, x]`. */
  async classify(image: Float32Array, shape: PatchShape, signal?: AbortSignal): Promise<Uint8Array> {
    return (await this.compute("labels", image, shape, signal)) as Uint8Array;
  }

  private async compute(output: Output, image: Float32Array, shape: PatchShape, signal?: AbortSignal) {
    const plan = await this.planFor(output, shape);
    const { result } = await plan.run({ image }, { signal });
    return result;
  }

  private async planFor(output: Output, shape: PatchShape): Promise<Plan<"result">> {
    const key = `${output} ${shape.join("x")}`;
    let plan = this.plans.get(key);
    if (plan === undefined) {
      plan = compile(
        (graph) => {
          const image = graph.input("image", [...shape, 1]);
          const probabilities = meanProbabilities(this.networks, image);
          return { result: output === "labels" ? argmax(probabilities) : probabilities };
        },
        { device: this.device, precision: this.options.precision },
      );
      this.plans.set(key, plan);
      this.options.onPlan?.(await plan);
    }
    return plan;
  }

  /** Gives the plans' memory back. */
  async dispose(): Promise<void> {
    for (const plan of this.plans.values()) (await plan).dispose();
    this.plans.clear();
  }
}
