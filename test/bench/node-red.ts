/**
 * Node-RED's way of the rule that mapping.ts measures: a condition on a JSON payload, a key and a header from the MQTT
 * topic, a value of three fields. Once by json, switch and change nodes with JSONata, once by a function node in
 * JavaScript. The runtime is the real one, without its editor; the first node gets the message as an mqtt-in node sends
 * it, and whatever comes out at the end counts as a record.
 *
 * Run as `node-red.ts <NodeRedOptions as JSON>`; the last line is JSON.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cpuRate } from "./mapping-messages.ts";

export interface NodeRedOptions {
  /** The folder in which it is installed. */
  readonly folder: string;
}

/** Messages a second of CPU. */
export interface NodeRedRates {
  readonly nodes: number;
  readonly script: number;
}

interface Message {
  readonly topic: string;
  readonly payload: unknown;
  readonly [name: string]: unknown;
}
interface FlowNode {
  receive(message: Message): void;
}
interface NodeRed {
  init(settings: object): void;
  start(): Promise<void>;
  stop(): Promise<void>;
  readonly events: { once(event: string, listener: () => void): void };
  readonly nodes: { getNode(id: string): FlowNode };
}

const BATCH = 3_000;
const at = { z: "flow", x: 0, y: 0 };
const set = (property: string, expression: string) => ({
  t: "set",
  p: property,
  pt: "msg",
  to: expression,
  tot: "jsonata",
});
const FLOWS = [
  { id: "flow", type: "tab", label: "bench" },
  { ...at, id: "json", type: "json", property: "payload", action: "obj", wires: [["switch"]] },
  {
    ...at,
    id: "switch",
    type: "switch",
    property: "payload.temperature",
    propertyType: "msg",
    rules: [{ t: "gt", v: "20", vt: "num" }],
    checkall: "true",
    outputs: 1,
    wires: [["change"]],
  },
  {
    ...at,
    id: "change",
    type: "change",
    rules: [
      set("key", '$split(topic, "/")[2]'),
      set("headers.site", '$split(topic, "/")[1]'),
      set("payload", '$string({"t": payload.temperature, "h": payload.humidity, "device": key})'),
    ],
    wires: [["end"]],
  },
  {
    ...at,
    id: "function",
    type: "function",
    func: `
      const { temperature, humidity } = JSON.parse(msg.payload.toString());
      if (!(temperature > 20)) return null;
      const [, site, device] = msg.topic.split("/");
      msg.key = device;
      msg.headers = { site };
      msg.payload = JSON.stringify({ t: temperature, h: humidity, device });
      return msg;`,
    outputs: 1,
    wires: [["end"]],
  },
  { ...at, id: "end", type: "change", rules: [], wires: [[]] },
];

async function rates({ nodes }: NodeRed): Promise<NodeRedRates> {
  const end = nodes.getNode("end");
  let left = 0;
  let done = (): void => {};
  end.receive = ({ key, headers, payload }) => {
    const site = (headers as { site?: unknown } | undefined)?.site;
    if (typeof key !== "string" || site !== "north" || !String(payload).startsWith('{"t":21.53,')) {
      throw new Error("mapped otherwise");
    }
    if (--left === 0) done();
  };
  const rateFrom = (first: FlowNode): Promise<number> =>
    cpuRate(BATCH, (batch) => {
      left = batch.length;
      for (const { mqttTopic: topic, payload, qos, retain } of batch) {
        first.receive({ topic, payload, qos, retain });
      }
      return new Promise((resolve) => {
        done = resolve;
      });
    });
  return { nodes: await rateFrom(nodes.getNode("json")), script: await rateFrom(nodes.getNode("function")) };
}

const { folder } = JSON.parse(process.argv[2] ?? "{}") as NodeRedOptions;
const nodeRed = createRequire(join(folder, "any.js"))("node-red") as NodeRed;
const userDir = mkdtempSync(join(tmpdir(), "sluice-bench-node-red-"));
try {
  writeFileSync(join(userDir, "flows.json"), JSON.stringify(FLOWS));
  nodeRed.init({
    httpAdminRoot: false,
    httpNodeRoot: false,
    userDir,
    flowFile: "flows.json",
    credentialSecret: false,
    logging: { console: { level: "error", metrics: false, audit: false } },
  });
  const started = new Promise<void>((resolve) => nodeRed.events.once("flows:started", resolve));
  await nodeRed.start();
  await started;
  const line = JSON.stringify(await rates(nodeRed));
  await nodeRed.stop();
  console.log(line);
} finally {
  rmSync(userDir, { recursive: true, force: true });
}
process.exit(0);
