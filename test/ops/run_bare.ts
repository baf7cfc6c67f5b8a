import { describe } from "../../lib/compile/describe.ts";
import { elements, type Value } from "../../lib/graph/value.ts";
import { native, type NativeDevice } from "../../lib/runtime/native.ts";

/** Runs one convolution by the kernel that takes weights as they are, with tensors `shift` bytes behind where they belong. */
export async function runBare(
  node: Value,
  inputs: readonly Float32Array[],
  device: NativeDevice = native().open(),
  shift = 0,
): Promise<Float32Array> {
  const spec = describe({ node, copy: false });
  let offset = 0;
  const place = (bytes: number) => {
    const here = offset;
    offset += Math.ceil(bytes / 256) * 256;
    return here;
  };
  for (const tensor of [...spec.inputs, spec.output])
    tensor.offset = place(4 * elements(tensor.shape) + shift) + shift;
  spec.workspaceBytes = device.workspace(spec);
  spec.workspaceOffset = place(spec.workspaceBytes);
  const plan = new device.Plan({
    arenaBytes: offset,
    states: [],
    steps: [spec],
    inputs: spec.inputs,
    outputs: [spec.output],
    prologue: 0,
    firstUpdate: 1,
    paranoid: true,
  });
  const [result] = await plan.start(inputs).promise;
  plan.dispose();
  return new Float32Array(result);
}
