/** The gradient of every whole network at a small size, and of its losses, against finite differences along random directions. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { gradients } from "../../lib/autograd/gradients.ts";
import { compile } from "../../lib/compile/compile.ts";
import { disposeStates, readState, writeState } from "../../lib/compile/states.ts";
import { models } from "../../lib/models/index.ts";
import { add } from "../../lib/ops/arithmetic.ts";
import { dice } from "../../lib/ops/dice.ts";
import { crossEntropy } from "../../lib/ops/loss.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { openDevice } from "../../lib/runtime/device.ts";
import { random } from "../ops/harness.ts";

const device = openDevice();

for (const [name, make] of Object.entries(models)) {
  test(`${name}: the gradient of cross-entropy + Dice agrees with finite differences`, async () => {
    const network = make({ baseChannels: 3, classes: 3, dropout: 0, seed: 4 });
    const states = network.parameters();
    const plan = await compile((g) => {
      const labels = g.input("labels", [2, 32, 32, 32], "u8");
      const logits = network.apply(g.input("x", [2, 32, 32, 32, 1]), { training: true, statistics: "keep" });
      const loss = add(crossEntropy(logits, labels), dice(softmax(logits), labels, { background: true }));
      const slopes = gradients(
        loss,
        states.map((state) => g.read(state)),
      );
      return { loss, ...Object.fromEntries(slopes.map((slope, index) => [`d${index}`, slope])) };
    });
    const feed = {
      x: Float32Array.from(random(2 * 32 ** 3, 5)),
      labels: Uint8Array.from({ length: 2 * 32 ** 3 }, (_, i) => (i >> 3) % 3),
    };
    const at = (await plan.run(feed)) as Record<string, Float32Array>;
    const start = await Promise.all(states.map((state) => readState(device, state) as Promise<Float32Array>));

    // Along the gradient itself the slope is largest, so float32 rounding matters least.
    const length = Math.sqrt(
      start.reduce((sum, _, k) => sum + at[`d${k}`].reduce((s, v) => s + v * v, 0), 0),
    );
    const lossAt = async (distance: number) => {
      for (const [k, state] of states.entries())
        await writeState(
          device,
          state,
          start[k].map((v, i) => v + (distance * at[`d${k}`][i]) / length),
        );
      return (await plan.run(feed)).loss[0];
    };
    // So small because every ReLU on the way is a kink.
    const h = 5e-5;
    const slope = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    assert.ok(Math.abs(slope - length) < 0.015 * length, `finite differences ${slope}, autograd ${length}`);
    plan.dispose();
    disposeStates(device, network.states().values());
  });
}

test.run();
