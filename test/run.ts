/** Runs every test file in a process of its own, two at a time, adds the counts up, and closes with `N passed, N failed`. */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join, relative } from "node:path";

const root = join(import.meta.dirname, "..");
const filters = process.argv.slice(2);
const files = readdirSync(import.meta.dirname, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => relative(root, join(import.meta.dirname, file)))
  .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
  .sort();

/** Milliseconds after which a test file counts as hung; it is ended and fails. */
const longest = 600_000;

interface Outcome {
  file: string;
  passed: number;
  failed: number;
  output: string;
  seconds: number;
}

function runFile(file: string): Promise<Outcome> {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--import", "tsx", file], {
      cwd: root,
      env: { ...process.env, FORCE_COLOR: "0" },
      timeout: longest,
      killSignal: "SIGKILL",
    });
    let output = "";
    child.stdout.on("data", (chunk) => (output += String(chunk)));
    child.stderr.on("data", (chunk) => (output += String(chunk)));
    child.on("close", (status, signal) => {
      const count = (label: string) => Number(new RegExp(`${label}:\\s+(\\d+)`).exec(output)?.[1] ?? 0);
      const total = count("Total");
      const passed = count("Passed");
      let failed = total - passed;
      if (total === 0) output += "\nno test ran: does the file call .run()?\n";
      if (signal !== null) output += `\nended by ${signal}\n`;
      if (total === 0 || (status !== 0 && failed === 0)) failed++;
      resolve({ file, passed, failed, output, seconds: (performance.now() - started) / 1000 });
    });
  });
}

let passed = 0;
let failed = 0;
const waiting = files.values();

/** Runs files that no other lane has taken; much of a file's time is one thread's: its start, and what it checks. */
async function lane(): Promise<void> {
  for (const file of waiting) {
    const outcome = await runFile(file);
    passed += outcome.passed;
    failed += outcome.failed;
    const verdict = outcome.failed === 0 ? "ok  " : "FAIL";
    console.log(`${verdict} ${file}  ${outcome.passed} passed  ${outcome.seconds.toFixed(1)} s`);
    if (outcome.failed > 0) console.log(outcome.output);
  }
}

await Promise.all([lane(), lane()]);
if (files.length === 0) {
  console.log(`no test file matches ${filters.join(" ")}`);
  failed++;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
