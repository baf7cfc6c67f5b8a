import { bytesOf, elements } from "../../lib/graph/value.ts";
import type { Device } from "../../lib/runtime/device.ts";
import type { StepSpec, TensorSpec } from "../../lib/runtime/native.ts";

/**
 * Runs one step on arrays of its inputs, its tensors `shift` bytes behind where they belong; yields its output, then the
 * inputs of floats as it left them.
 */
export async function runStep(
  device: Device,
  step: StepSpec,
  data: NodeJS.TypedArray[],
  shift = 0,
): Promise<ArrayBuffer[]> {
  let end = 0;
  const place = (tensor: TensorSpec): TensorSpec => {
    const placed = { ...tensor, offset: end + shift };
    end += Math.ceil((elements(tensor.shape) * bytesOf[tensor.dtype] + shift + 256) / 256) * 256;
    return placed;
  };
  const spec: StepSpec = { ...step, inputs: step.inputs.map(place), output: place(step.output) };
  spec.workspaceBytes = device.native.workspace(spec);
  spec.workspaceOffset = end;
  const { inputs, output } = spec;
  // What a kernel writes besides its output is looked at as well.
  const outputs = [output, ...inputs.filter(({ dtype }) => dtype === "f32")];
  const plan = new device.native.Plan({
    arenaBytes: end + spec.workspaceBytes,
    states: [],
    steps: [spec],
    inputs,
    outputs,
    prologue: 0,
    firstUpdate: 1,
    paranoid: true,
  });
  const results = await plan.start(data).promise;
  plan.dispose();
  return results;
}
