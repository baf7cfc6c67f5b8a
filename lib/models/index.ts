import { nearest, UsageError } from "../errors.ts";
import { type DeepLabOptions, deeplabv3plus } from "./deeplabv3plus.ts";
import type { Network } from "./network.ts";
import { resvnet } from "./resvnet.ts";
import { vnet } from "./vnet.ts";

export { type DeepLabOptions } from "./deeplabv3plus.ts";
export { Network, type NetworkOptions } from "./network.ts";
export { deeplabv3plus, resvnet, vnet };

/** Options of any network; each reads those that concern it. */
export type ModelOptions = DeepLabOptions;

/** The networks by the names that configurations and the command use. */
export const models: Readonly<Record<string, (options?: ModelOptions) => Network>> = {
  vnet,
  resvnet,
  deeplabv3plus,
};

/** What the extents along x, y and z must be multiples of for all of these networks. */
export function commonDivisor(networks: readonly Network[]): readonly [x: number, y: number, z: number] {
  // All are powers of two, so the largest is a multiple of the others.
  const along = (axis: number) => Math.max(...networks.map(({ divisor }) => divisor[axis]));
  return [along(2), along(1), along(0)];
}

export function modelNamed(name: string): (options?: ModelOptions) => Network {
  const model = models[name];
  if (model !== undefined) return model;
  const hint = nearest(name, Object.keys(models));
  throw new UsageError(
    `no network is called "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${Object.keys(models).join(", ")}`,
  );
}
