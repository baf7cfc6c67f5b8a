import { nearest, UsageError } from "../errors.ts";
import type { Network, NetworkOptions } from "./network.ts";
import { resvnet } from "./resvnet.ts";
import { vnet } from "./vnet.ts";

export { Network, type NetworkOptions } from "./network.ts";
export { resvnet, vnet };

/** The networks by the names that configurations and the command use. */
export const models: Readonly<Record<string, (options?: NetworkOptions) => Network>> = { vnet, resvnet };

export function modelNamed(name: string): (options?: NetworkOptions) => Network {
  const model = models[name];
  if (model !== undefined) return model;
  const hint = nearest(name, Object.keys(models));
  throw new UsageError(
    `no network is called "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${Object.keys(models).join(", ")}`,
  );
}
