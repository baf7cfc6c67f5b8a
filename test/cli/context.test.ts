import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

const module = JSON.stringify(join(import.meta.dirname, "../../lib/cli/context.ts"));

function start(body: string) {
  const script = `import { processContext } from ${module}; const context = processContext("1"); ${body}`;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script]);
  const ended = new Promise<{ status: number | null; stderr: string }>((resolve) => {
    let stderr = "";
    child.stderr.on("data", (chunk) => (stderr += String(chunk)));
    child.on("close", (status) => resolve({ status, stderr }));
  });
  return { child, ended };
}

test("a reader that goes away is no crash", async () => {
  const { child, ended } = start(`
    let lines = 0;
    const timer = setInterval(() => {
      context.stdout.write("line\\n".repeat(1000));
      if (++lines === 20) { clearInterval(timer); process.exitCode = 7; }
    }, 5);`);
  child.stdout.once("data", () => child.stdout.destroy());
  assert.equal(await ended, { status: 7, stderr: "" });
});

test("the first interrupt aborts the signal, the second ends the process", async () => {
  const { child, ended } = start(`
    setInterval(() => {}, 1000);
    context.signal.addEventListener("abort", () => context.stdout.write("saving"));
    context.stdout.write("ready");`);
  child.stdout.on("data", () => child.kill("SIGINT"));
  assert.equal(await ended, { status: 130, stderr: "" });
});

test.run();
