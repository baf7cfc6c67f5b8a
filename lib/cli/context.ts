import type { Context } from "./arguments.ts";

/**
 * The context of this process. A reader that goes away (EPIPE) silences stdout or stderr instead of crashing the
 * process. The first SIGINT or SIGTERM aborts `signal`, so that a run can finish its step and save; the second ends the
 * process at once.
 */
export function processContext(version: string): Context {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  const controller = new AbortController();
  const exitStatus = { SIGINT: 130, SIGTERM: 143 } as const;
  const onSignal = (name: "SIGINT" | "SIGTERM") => {
    if (controller.signal.aborted) process.exit(exitStatus[name]);
    controller.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return { stdout: process.stdout, stderr: process.stderr, signal: controller.signal, version };
}
