import { formatType } from "../graph/value.ts";
import type { Plan } from "./plan.ts";
import { counted } from "../errors.ts";

/** One line a step: kernel, result, operands, where it lies, operations; then the totals. */
export function printPlan(plan: Plan): string {
  const { steps, states, prologue, firstUpdate, arenaBytes } = plan.layout;
  const rows = steps.map(({ spec, flops, algorithm }, index) => {
    const place =
      spec.output.state === undefined ? `@${spec.output.offset}` : `-> ${states[spec.output.state].name}`;
    const scratch = spec.workspaceBytes ? ` +${mebibytes(spec.workspaceBytes)} workspace` : "";
    const work = flops > 0 ? ` ${giga(flops)}` : "";
    const way = algorithm === undefined ? "" : ` by ${algorithm}`;
    const kept = index === prologue && index > 0 ? "-- every run --\n" : "";
    const update = index === firstUpdate ? "-- updates --\n" : "";
    return `${kept}${update}${String(index).padStart(5)} ${spec.label} ${formatType(spec.output)} ${place}${scratch}${work}${way}`;
  });
  const totals = [
    `${counted(steps.length, "step")}, ${giga(plan.flops)}, precision ${plan.layout.precision}`,
    `peak ${mebibytes(plan.peakBytes)} = states ${mebibytes(plan.stateBytes)} + arena ${mebibytes(arenaBytes)}`,
  ];
  return [...rows, ...totals].join("\n");
}

function giga(flops: number): string {
  return `${(flops / 1e9).toFixed(flops < 1e7 ? 6 : 3)} GFLOP`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(2)} MiB`;
}
