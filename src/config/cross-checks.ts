/**
 * What no single value can tell: whether the parts of a configuration fit each other. Runs on values that the
 * schema may have refused elsewhere, so that one misspelt key does not hide an undeclared stream; what has
 * not the right type is passed over here, the schema has said so.
 */
import { messageOf } from "../errors.ts";
import type { SchemaFile } from "../mapping/json-schema.ts";
import type { Attachments } from "./attachments.ts";
import { checkDownlinks } from "./downlink-checks.ts";
import { type Checked, placeOf, valueAt, wordsOf } from "./issue-words.ts";
import { type Loose, listOf, mapOf } from "./loose.ts";
import { MappingChecks, needsKey } from "./mapping-checks.ts";
import { didYouMean, type Problem } from "./problems.ts";
import { configSchema } from "./schema.ts";
import { type Address, formatAddress, formatSize } from "./units.ts";
import type { Path, Within } from "./yaml-source.ts";

/** The names Kafka takes for a topic. */
const STREAM_NAME = /^[a-zA-Z0-9._-]{1,249}$/;

/** `notes` are no mistakes, but worth a look. */
export function crossCheck(
  checked: Checked,
  attachments: Attachments,
): { problems: Problem[]; notes: Problem[] } {
  const checks = new CrossChecks(checked, attachments);
  checks.streamNames();
  checks.tables();
  checks.mappings();
  checks.downlinks();
  checks.ports();
  checks.sizes();
  checks.uplinks();
  return { problems: checks.problems, notes: checks.notes };
}

class CrossChecks {
  readonly problems: Problem[] = [];
  readonly notes: Problem[] = [];
  private readonly checked: Checked;
  private readonly attachments: Attachments;
  private readonly config: Loose;
  private readonly streams: readonly string[];
  private readonly read = new Map<string, ReadonlyMap<string, unknown>>();

  constructor(checked: Checked, attachments: Attachments) {
    this.checked = checked;
    this.attachments = attachments;
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

  tables(): void {
    for (const [name, file] of Object.entries(mapOf(this.config.tables))) {
      if (typeof file !== "string" || file === "") continue;
      try {
        this.read.set(name, this.attachments.table(file));
      } catch (error) {
        const path = ["tables", name];
        this.report(path, `${wordsOf(path)}: the file ${messageOf(error)}`);
        this.read.set(name, new Map());
      }
    }
  }

  mappings(): void {
    const { mappings, defaults, fallback, deadLetters, downlinks } = this.config;
    const schemas = new Map<string, SchemaFile | undefined>();
    const checks = new MappingChecks({
      mappings,
      defaults,
      streams: mapOf(this.config.streams),
      tables: this.read,
      schemaOf: (file) => schemas.get(file),
      declared: (stream, path) => this.declared(stream, path),
      report: (path, message, mend, within) => this.report(path, message, mend, within),
    });
    for (const [index, mapping] of listOf(mappings).entries()) {
      this.schema(mapOf(mapping).schema, index, schemas);
    }
    checks.run();
    if (typeof fallback === "string") {
      this.declared(fallback, ["fallback"]);
      checks.written.add(fallback);
      this.keyed(fallback, "fallback", "what no mapping matches has none");
    }
    this.deadLetters(deadLetters);
    // A downlink's stream is there for Kafka producers to write.
    for (const one of listOf(downlinks)) checks.written.add(String(mapOf(one).from));
    for (const name of this.streams) {
      const isWritten = checks.written.has(name) || checks.patterns.some((pattern) => pattern.test(name));
      if (isWritten || name === (deadLetters ?? "dead-letters") || !Array.isArray(mappings)) continue;
      const place = this.checked.source.placeOfKey(["streams", name]);
      const message = `no mapping writes stream "${name}"; that is right if a Kafka producer does`;
      this.notes.push({ place, message });
    }
  }

  private schema(file: unknown, index: number, read: Map<string, SchemaFile | undefined>): void {
    if (typeof file !== "string" || file === "" || read.has(file)) return;
    let schema: SchemaFile | undefined;
    try {
      schema = this.attachments.schema(file);
    } catch (error) {
      const path = ["mappings", index, "schema"];
      this.report(path, `${wordsOf(path)}: the file ${messageOf(error)}`);
    }
    read.set(file, schema);
  }

  downlinks(): void {
    checkDownlinks(
      this.config,
      this.read,
      (stream, path) => this.declared(stream, path),
      (...problem) => this.report(...problem),
    );
  }

  private declared(stream: string, path: Path): void {
    if (this.streams.includes(stream)) return;
    const meant = didYouMean(stream, this.streams);
    const mend = meant === "" ? `add  ${stream}: {}  to streams` : undefined;
    this.report(path, `${wordsOf(path)}: stream "${stream}" is not declared under streams${meant}`, mend);
  }

  private keyed(stream: string, option: string, why: string): void {
    if (mapOf(mapOf(this.config.streams)[stream]).cleanup !== "compact") return;
    this.report([option], `${option}: ${needsKey(stream)}, and ${why}`);
  }

  private deadLetters(stream: unknown): void {
    if (typeof stream !== "string" || stream === "") return;
    const wrong = this.streams.includes(stream) ? undefined : wrongStreamName(stream);
    if (wrong !== undefined) this.report(["deadLetters"], `deadLetters: stream name "${stream}" ${wrong}`);
    if (mapOf(mapOf(this.config.streams)[stream]).cleanup !== "compact") return;
    const message = `deadLetters: stream "${stream}" is compacted, and would keep the last dead letter of each MQTT topic only`;
    this.report(["deadLetters"], message, "use a stream with cleanup: delete");
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
    kafka?.listeners.forEach(({ name, bind }, index) => {
      const path = ["kafka", "listeners", index];
      all.push({ path: [...path, "bind"], bind });
      const first = kafka.listeners.findIndex((one) => one.name === name);
      if (first === index) return;
      this.report([...path, "name"], `kafka.listeners[${first}] has the name "${name}" already`);
    });
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
    for (const [index, uplink] of listOf(uplinks).entries()) {
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
