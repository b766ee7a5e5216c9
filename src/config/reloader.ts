/**
 * The configuration while the gateway runs: loaded anew on SIGHUP, when its files change, and when asked. A new
 * one is validated whole and its tests are run before anybody hears of it; if anything is wrong the old one
 * goes on, and the log and `status` say why, in the loader's words.
 */
import { setImmediate as turn } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { messageOf, type SluiceError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { FileWatcher } from "./file-watcher.ts";
import type { LoadedConfig } from "./loaded.ts";
import { isMap, type Loose } from "./loose.ts";

/** How the configuration is loaded, everything that stands outside of the files included; `current` is what runs. */
export type LoadConfig = (current: LoadedConfig) => Promise<LoadedConfig>;

export interface ConfigStatus {
  readonly file: string;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly loadedAt: number;
  /** The newest one, if it was not taken over. */
  readonly refused?: { readonly at: number; readonly code: string; readonly message: string } | undefined;
}

export interface Reloaded extends ConfigStatus {
  readonly previous: string;
  /** The settings that are others now, such as `mappings` or `streams.telemetry`; none: nothing was done. */
  readonly changed: readonly string[];
}

export class Reloader {
  private readonly load: LoadConfig;
  private readonly takeOver: (loaded: LoadedConfig) => Promise<void>;
  private readonly logger: Logger;
  private readonly watcher = new FileWatcher(() => this.reloadSoon());
  private current: LoadedConfig;
  private loadedAt = Date.now();
  private refused: ConfigStatus["refused"];
  private running: Promise<unknown> = Promise.resolve();
  private waiting: Promise<Reloaded> | undefined;

  /** `takeOver` makes the gateway run on another configuration, or throws and leaves all as it is. */
  constructor(
    current: LoadedConfig,
    load: LoadConfig,
    takeOver: (loaded: LoadedConfig) => Promise<void>,
    logger: Logger,
  ) {
    this.current = current;
    this.load = load;
    this.takeOver = takeOver;
    this.logger = logger;
  }

  async start(): Promise<void> {
    await this.watcher.watch(this.current.files);
  }

  async close(): Promise<void> {
    this.watcher.close();
    await this.running.catch(() => {});
  }

  get status(): ConfigStatus {
    const { file, version } = this.current;
    return { file, version, loadedAt: this.loadedAt, refused: this.refused };
  }

  /**
   * Resolves when the files' configuration is the one that runs. Rejects with what is wrong with it. One at a
   * time; whoever asks before the next one has begun shares it.
   */
  reload(): Promise<Reloaded> {
    this.waiting ??= this.running
      .catch(() => {})
      .then(() => {
        this.waiting = undefined;
        return this.reloadNow();
      });
    this.running = this.waiting;
    return this.waiting;
  }

  /** What is wrong is in the log, and in `status`. */
  reloadSoon(): void {
    this.reload().catch(() => {});
  }

  private async reloadNow(): Promise<Reloaded> {
    const before = this.current;
    try {
      await this.watcher.beforeReading();
      const loaded = await this.load(before);
      // Reading a large answer and comparing it take milliseconds each: messages pass in between.
      await turn();
      const changed = changes(before, loaded);
      await turn();
      if (loaded.version !== before.version || changed.length > 0) {
        for (const warning of loaded.warnings) this.logger.warn(warning);
        await this.takeOver(loaded);
        this.current = loaded;
        this.loadedAt = Date.now();
        const { version } = loaded;
        this.logger.info({ version, changed }, "the configuration was reloaded");
      } else if (this.refused !== undefined) {
        this.logger.info({ version: before.version }, "the configuration is again the one that runs");
      }
      this.refused = undefined;
      await this.watcher.watch(loaded.files);
      return { ...this.status, previous: before.version, changed };
    } catch (error) {
      this.refuse(error);
      throw error;
    }
  }

  private refuse(error: unknown): void {
    const { code = "FAILED", mend } = error as Partial<SluiceError>;
    const message = mend === undefined ? messageOf(error) : `${messageOf(error)}\n${mend}`;
    // A save that changes nothing about what is wrong is not said again.
    if (this.refused?.message !== message) {
      const since = new Date(this.loadedAt).toTimeString().slice(0, 8);
      this.logger.error(
        { code, version: this.current.version },
        `the configuration was not taken over; still running the one loaded at ${since}\n${message}`,
      );
    }
    this.refused = { at: Date.now(), code, message };
  }
}

/** The settings that differ: sections by their keys, the rest as a whole; tables by what their files say. */
function changes(before: LoadedConfig, after: LoadedConfig): string[] {
  const settings = ({ config, tableVersions }: LoadedConfig): Loose => ({
    ...config,
    tables: tableVersions,
  });
  const [old, new_] = [settings(before), settings(after)];
  return keysOf(old, new_).flatMap((key) => {
    const [one, other] = [old[key], new_[key]];
    if (isDeepStrictEqual(one, other)) return [];
    if (!isMap(one) || !isMap(other)) return [key];
    return keysOf(one, other)
      .filter((name) => !isDeepStrictEqual(one[name], other[name]))
      .map((name) => `${key}.${name}`);
  });
}

function keysOf(a: object, b: object): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])];
}
