import type { Value } from "../graph/value.ts";
import type { Device } from "../runtime/device.ts";
import type { Schedule, ScheduledStep } from "./schedule.ts";

/**
 * The same steps, but where the device's optimizer can write the packed copies of weights that it updates, they are kept
 * from run to run: only weights that somebody else has written are packed by steps of their own.
 */
export function keepPacked(order: Schedule, device: Device): Schedule {
  if (!device.native.kernels().includes("sgdPacked")) return order;
  const { steps, prologue, firstUpdate } = order;
  const packings = steps.slice(prologue, firstUpdate).filter(({ node }) => node.op === "conv3dPackWeights");
  const kept = new Map<Value, ScheduledStep>();
  const updated = steps.map((step): ScheduledStep => {
    const weights = step.updates?.map(({ parameter }) => parameter.node.inputs[0]) ?? [];
    const own = weights.flatMap((weight) => copiesOf(weight, packings));
    for (const packing of own) kept.set(packing.node, packing);
    return own.length === 0 ? step : { ...step, packed: own.map(({ node }) => node) };
  });
  return {
    steps: [
      ...updated.slice(0, prologue),
      ...kept.values(),
      ...updated.slice(prologue).filter(({ node }) => !kept.has(node)),
    ],
    prologue: prologue + kept.size,
    firstUpdate,
  };
}

/** One copy of a weight for convolutions and one for input gradients. */
function copiesOf(weight: Value, packings: readonly ScheduledStep[]): ScheduledStep[] {
  const all = packings.filter(({ node }) => node.inputs[0] === weight);
  return [false, true].flatMap(
    (gradient) => all.find(({ node }) => node.attributes.inputGradient === gradient) ?? [],
  );
}
