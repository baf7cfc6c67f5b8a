/** Runs with an environment variable that native code looks up each time, and leaves it as it was. */
export async function withVariable<T>(
  name: string,
  value: number | string,
  run: () => Promise<T>,
): Promise<T> {
  const before = process.env[name];
  process.env[name] = String(value);
  try {
    return await run();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}

/** As on a device that has so many blocks at a time, none meaning that its blocks cannot wait for each other. */
export const withBlocks = <T>(blocks: number, run: () => Promise<T>): Promise<T> =>
  withVariable("VOXGRAD_EMULATOR_COOPERATIVE", blocks, run);

/** With the emulated threads of a block in another order. */
export const inOrder = <T>(schedule: string, run: () => Promise<T>): Promise<T> =>
  withVariable("VOXGRAD_SCHEDULE", schedule, run);
