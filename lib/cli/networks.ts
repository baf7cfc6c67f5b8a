import { nearest, UsageError } from "../errors.ts";
import type { Network } from "../models/index.ts";

/** What `--network` names of the networks of a run; `all` are all. Throws UsageError with the names there are. */
export function chooseNetworks(networks: readonly Network[], name: string): readonly Network[] {
  if (name === "all") return networks;
  const chosen = networks.filter(({ path }) => path === name);
  if (chosen.length > 0) return chosen;
  const names = networks.map(({ path }) => path);
  const hint = nearest(name, names);
  throw new UsageError(
    `--network cannot be '${name}': this run has all, ${names.join(", ")}${hint ? `; did you mean ${hint}?` : ""}`,
  );
}
