/**
 * What no single value can tell: whether the parts of a configuration fit each other. Runs on values that the
 * schema may have refused elsewhere, so that one misspelt key does not hide an undeclared stream; what has
 * not the right type is passed over here, the schema has said so.
 */
import { type CompiledRule, compileRule, type RuleDefinition } from "../mapping/rule.ts";
import { MappingSyntaxError } from "../mapping/syntax-error.ts";
import { checkDownlinks } from "./downlink-checks.ts";
import { type Checked, placeOf, valueAt, wordsOf } from "./issue-words.ts";
import { didYouMean, type Problem } from "./problems.ts";
import { configSchema } from "./schema.ts";
import { type Address, formatAddress, formatSize } from "./units.ts";
import type { Path, Within } from "./yaml-source.ts";

type Loose = Record<string, unknown>;

/** The names Kafka takes for a topic. */
const STREAM_NAME = /^[a-zA-Z0-9._-]{1,249}$/;

export function crossCheck(checked: Checked): Problem[] {
  const checks = new CrossChecks(checked);
  checks.streamNames();
  checks.mappings();
  checks.fallback();
  checks.downlinks();
  checks.ports();
  checks.sizes();
  checks.uplinks();
  return checks.problems;
}

class CrossChecks {
  readonly problems: Problem[] = [];
  private readonly checked: Checked;
  private readonly config: Loose;
  private readonly streams: readonly string[];

  constructor(checked: Checked) {
    this.checked = checked;
    this.config = mapOf(checked.value);
    this.streams = Object.keys(mapOf(this.config.streams));
  }

  private report(path: Path, message: string, mend?: string, within?: Within): void {
    this.problems.push({ place: placeOf(path, this.checked, within), message, mend });
  }

  streamNames(): void {
    for (const name of this.streams) {
      const wrong = wrongStreamName(name);
      if (wrong === undefined) continue;
      const path = ["streams", name];
      const place = this.checked.overridePlace(path) ?? this.checked.source.placeOfKey(path);
      this.problems.push({ place, message: `stream name "${name}" ${wrong}` });
    }
  }

  mappings(): void {
    const { mappings } = this.config;
    const firstOf = new Map<unknown, number>();
    for (const [index, mapping] of (Array.isArray(mappings) ? mappings : []).entries()) {
      const rule = mapOf(mapping);
      this.rule(rule, ["mappings", index]);
      const first = firstOf.get(rule.name);
      if (typeof rule.name !== "string") continue;
      if (first === undefined) firstOf.set(rule.name, index);
      else this.report(["mappings", index, "name"], `mappings[${first}] has the name "${rule.name}" already`);
    }
  }

  /** Each field by itself, so that every one that is wrong is said; without a good `from` no name is known. */
  private rule({ from, to, key, headers, timestamp }: Loose, at: Path): void {
    if (typeof from !== "string") return;
    const compile = (part: Partial<RuleDefinition>): CompiledRule | undefined => {
      try {
        return compileRule({ name: "", from, to: "any", ...part });
      } catch (error) {
        if (!(error instanceof MappingSyntaxError)) throw error;
        const path = [...at, ...error.path];
        this.report(path, `${wordsOf(path)}: ${error.message}`, error.mend, error);
        return undefined;
      }
    };
    if (compile({}) === undefined) return;
    const stream = typeof to === "string" ? compile({ to })?.to.literal : undefined;
    if (stream !== undefined) this.declared(stream, [...at, "to"]);
    if (typeof key === "string") compile({ key });
    else if (key === undefined && this.isCompacted(stream)) {
      const path = [...at, "to"];
      this.report(
        path,
        `${wordsOf(path)}: ${needsKey(stream)}`,
        "give this mapping a key, e.g. key: ${topic}",
      );
    }
    if (typeof timestamp === "string") compile({ timestamp });
    for (const [name, value] of Object.entries(mapOf(headers))) {
      if (typeof value === "string") compile({ headers: { [name]: value } });
    }
  }

  fallback(): void {
    const { fallback } = this.config;
    if (typeof fallback !== "string") return;
    this.declared(fallback, ["fallback"]);
    if (!this.isCompacted(fallback)) return;
    this.report(["fallback"], `fallback: ${needsKey(fallback)}, and what no mapping matches has none`);
  }

  downlinks(): void {
    checkDownlinks(
      this.config,
      (stream, path) => this.declared(stream, path),
      (...problem) => this.report(...problem),
    );
  }

  private isCompacted(stream: string | undefined): stream is string {
    if (stream === undefined || !this.streams.includes(stream)) return false;
    return mapOf(mapOf(this.config.streams)[stream]).cleanup === "compact";
  }

  private declared(stream: string, path: Path): void {
    if (this.streams.includes(stream)) return;
    const meant = didYouMean(stream, this.streams);
    const mend = meant === "" ? `add  ${stream}: {}  to streams` : undefined;
    this.report(path, `${wordsOf(path)}: stream "${stream}" is not declared under streams${meant}`, mend);
  }

  /** Two listeners that would open the same port; port 0 gives each one of its own. */
  ports(): void {
    const mqtt = configSchema.shape.mqtt.safeParse(this.config.mqtt).data;
    const kafka = configSchema.shape.kafka.safeParse(this.config.kafka).data;
    const all: { path: Path; bind: Address }[] = [];
    mqtt?.listeners.forEach(({ bind }, index) => {
      all.push({ path: ["mqtt", "listeners", index, "bind"], bind });
    });
    if (kafka !== undefined) all.push({ path: ["kafka", "bind"], bind: kafka.bind });
    for (const [index, { path, bind }] of all.entries()) {
      const other = all.slice(0, index).find((one) => bind.port !== 0 && overlap(one.bind, bind));
      if (other === undefined) continue;
      const message = `${wordsOf(path)} is ${formatAddress(bind)}, but ${wordsOf(other.path)} has this port`;
      // A default stands nowhere; then the other one is shown.
      const shown = valueAt(this.config, path) === undefined ? other.path : path;
      this.report(shown, message, "use another port");
    }
  }

  /** A publish larger than its stream takes would never be acknowledged, and sent again for ever. */
  sizes(): void {
    const maxPacket = configSchema.shape.mqtt.safeParse(this.config.mqtt).data?.maxPacket ?? 0;
    const streams = configSchema.shape.streams.safeParse(this.config.streams).data ?? {};
    for (const [name, { maxMessage }] of Object.entries(streams)) {
      if (maxMessage >= maxPacket) continue;
      const path = ["streams", name, "maxMessage"];
      this.report(
        path,
        `${wordsOf(path)} is smaller than mqtt.maxPacket, which is ${formatSize(maxPacket)}: larger messages could never be stored`,
      );
    }
  }

  uplinks(): void {
    const { uplinks } = this.config;
    const firstOf = new Map<unknown, number>();
    for (const [index, uplink] of (Array.isArray(uplinks) ? uplinks : []).entries()) {
      const { name, onPoison, deadLetters } = mapOf(uplink);
      const at = ["uplinks", index];
      const first = firstOf.get(name);
      if (first === undefined) firstOf.set(name, index);
      else if (typeof name === "string")
        this.report([...at, "name"], `uplinks[${first}] has the name "${name}" already`);
      if (typeof deadLetters === "string") this.declared(deadLetters, [...at, "deadLetters"]);
      else if (onPoison === "dead-letter") {
        this.report(
          [...at, "onPoison"],
          `${wordsOf([...at, "onPoison"])}: dead-letter needs a stream`,
          "add  deadLetters: <stream>",
        );
      }
    }
  }
}

function needsKey(stream: string): string {
  return `stream "${stream}" is compacted and takes no record without a key`;
}

/** Completes "stream name … "; undefined for a good name. */
function wrongStreamName(name: string): string | undefined {
  if (name === "." || name === "..") return "means a folder";
  if (name.startsWith("__")) return "is reserved: names with __ in front are the gateway's own";
  if (name.length > 249) return "is longer than 249 characters";
  return STREAM_NAME.test(name) ? undefined : "may have letters, digits, dots, _ and - only";
}

function overlap(one: Address, other: Address): boolean {
  const isAny = ({ host }: Address) => host === "0.0.0.0" || host === "::";
  return one.port === other.port && (one.host === other.host || isAny(one) || isAny(other));
}

function mapOf(value: unknown): Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Loose) : {};
}
