import type { Value } from "../graph/value.ts";
import type { Device } from "../runtime/device.ts";
import { operandsOf, type Schedule, type ScheduledStep } from "./schedule.ts";

/** The same steps, but all moving averages of one decay that work in place are updated by one kernel, where the device has one. */
export function joinAverages(order: Schedule, device: Device): Schedule {
  if (!device.native.kernels().includes("emas")) return order;
  const { prologue, firstUpdate } = order;
  const steps: ScheduledStep[] = [];
  for (const step of order.steps) {
    if (step.node.op !== "ema" || step.state === undefined || step.copy) {
      steps.push(step);
      continue;
    }
    const at = steps.findIndex((other, index) => canJoin(other, step, steps.slice(index + 1)));
    if (at < 0) steps.push({ ...step, averages: [step] });
    else steps[at] = { ...steps[at], averages: [...(steps[at].averages as ScheduledStep[]), step] };
  }
  return { steps: steps.map(withoutLoneAverage), prologue, firstUpdate };
}

/** Whether an average can be made as early as by `group`, behind which come the steps `between`. */
function canJoin(group: ScheduledStep, { node }: ScheduledStep, between: readonly ScheduledStep[]): boolean {
  const { averages } = group;
  if (averages === undefined || group.node.inputs[2] !== node.inputs[2]) return false;
  if (group.node.attributes.decay !== node.attributes.decay) return false;
  const [own, followed] = node.inputs;
  // Of one kernel's averages none may follow another.
  const apart = averages.every(
    (each) => each.node !== followed && each.node.inputs[0] !== followed && each.node.inputs[1] !== own,
  );
  return apart && between.every((step) => !makes(step).includes(followed) && !operandsOf(step).includes(own));
}

const makes = ({ node, joined, updates = [], averages = [] }: ScheduledStep): Value[] => [
  node,
  ...(joined?.values ?? []),
  ...updates.flatMap(({ velocity, parameter }) => [velocity.node, parameter.node]),
  ...averages.map((each) => each.node),
];

const withoutLoneAverage = (step: ScheduledStep): ScheduledStep =>
  step.averages?.length === 1 ? step.averages[0] : step;
