/** All uplinks of a gateway, and what a person asks of them. */
import { isDeepStrictEqual } from "node:util";
import { SluiceError } from "../errors.ts";
import { Notes } from "./notes.ts";
import type { UplinkOptions } from "./options.ts";
import type { UplinkReport } from "./report.ts";
import { Uplink, type UplinkServices } from "./uplink.ts";

export class Uplinks {
  private readonly services: UplinkServices;
  private readonly uplinks = new Map<string, Uplink>();
  private wanted: readonly UplinkOptions[];

  constructor(options: readonly UplinkOptions[], services: Omit<UplinkServices, "notes">) {
    this.wanted = options;
    this.services = { ...services, notes: new Notes(services.log) };
  }

  get all(): readonly Uplink[] {
    return [...this.uplinks.values()];
  }

  get reports(): readonly UplinkReport[] {
    return this.all.map(({ report }) => report);
  }

  /** Never waits for a cluster: sensors and subscribers notice nothing of one that is away. */
  async start(): Promise<void> {
    await this.use(this.wanted);
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((uplink) => uplink.close()));
    this.uplinks.clear();
  }

  /** Begins those that are new or others than before, ends those that are gone; the rest goes on. */
  async use(options: readonly UplinkOptions[]): Promise<void> {
    this.wanted = options;
    if (options.length > 0) await this.services.notes.start();
    const ended = this.all.filter((uplink) => !options.some((one) => isDeepStrictEqual(one, uplink.options)));
    await Promise.all(ended.map((uplink) => uplink.close()));
    for (const { name } of ended) this.uplinks.delete(name);
    for (const one of options) {
      if (this.uplinks.has(one.name)) continue;
      const uplink = new Uplink(one, this.services);
      this.uplinks.set(one.name, uplink);
      uplink.start();
    }
    // Not before: between the two retention could take what the new one needs.
    for (const uplink of ended) uplink.release(this.uplinks.get(uplink.name));
  }

  /** The one of that name, or the only one. */
  named(name: string | undefined): Uplink {
    const { all } = this;
    const found = name === undefined && all.length === 1 ? all[0] : this.uplinks.get(name ?? "");
    if (found !== undefined) return found;
    const words =
      all.length === 0
        ? "this gateway has no uplink"
        : name === undefined
          ? "there are several uplinks"
          : `there is no uplink "${name}"`;
    throw new SluiceError("NO_UPLINK", words, {
      mend:
        all.length === 0
          ? "Write one under uplinks: in the configuration."
          : `Uplinks: ${all.map(({ name }) => name).join(", ")}.`,
      exitCode: 64,
    });
  }
}
