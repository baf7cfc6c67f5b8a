/** A device that fails in the middle of training, for failure.test.ts: prints what each attempt to go on with it ends in. */
import { compile } from "../../lib/compile/compile.ts";
import { readState } from "../../lib/compile/states.ts";
import { State } from "../../lib/graph/state.ts";
import { relu } from "../../lib/ops/activation.ts";
import { add, sum } from "../../lib/ops/arithmetic.ts";
import { openDevice } from "../../lib/runtime/device.ts";

const device = openDevice("emulator");
const attempts: Record<string, string> = {};
async function attempt(name: string, work: () => Promise<string>): Promise<void> {
  attempts[name] = await work().catch(
    (error: Error & { code?: string }) => `${error.name} ${error.code}: ${error.message}`,
  );
}

const total = new State("total", [4]);
const trace = (chosen: typeof device) =>
  compile(
    (graph) => {
      const x = relu(graph.input("x", [4]));
      graph.assign(total, add(total, x));
      return { loss: sum(x) };
    },
    { device: chosen },
  );
const x = Float32Array.of(1, 2, 3, 4);
const run = async (plan: Awaited<ReturnType<typeof trace>>) => String((await plan.run({ x })).loss[0]);

const plan = await trace(device);
for (let i = 1; i <= Number(process.argv[2]); i++) await attempt(`run ${i}`, () => run(plan));
await attempt("run again", () => run(plan));
await attempt("read", async () => String(await readState(device, total)));
await attempt("compile", async () => run(await trace(device)));
plan.dispose();
await attempt("cpu", async () => run(await trace(openDevice("cpu"))));
console.log(JSON.stringify(attempts));
