/**
 * Kafka's own command-line tools. They share a JVM (KafkaTools.java), as its start costs more than what most of
 * them do; each is answered as the process would be that it is to its users.
 */
import { fileURLToPath } from "node:url";
import { type Finished, Running, type RunOptions } from "./process.ts";
import { javaArgs, tool } from "./tools.ts";

const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64");

/** Short names: `topics` for `org.apache.kafka.tools.TopicCommand`. */
export const MAINS = {
  topics: "org.apache.kafka.tools.TopicCommand",
  configs: "kafka.admin.ConfigCommand",
  produce: "org.apache.kafka.tools.ConsoleProducer",
  consume: "org.apache.kafka.tools.consumer.ConsoleConsumer",
  groups: "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
  "all groups": "org.apache.kafka.tools.GroupsCommand",
  offsets: "org.apache.kafka.tools.GetOffsetShell",
  "delete records": "org.apache.kafka.tools.DeleteRecordsCommand",
  "log dirs": "org.apache.kafka.tools.LogDirsCommand",
  "api versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
  "verifiable producer": "org.apache.kafka.tools.VerifiableProducer",
  "verifiable consumer": "org.apache.kafka.tools.VerifiableConsumer",
  "producer performance": "org.apache.kafka.tools.ProducerPerformance",
  "consumer performance": "org.apache.kafka.tools.ConsumerPerformance",
  "replica verification": "org.apache.kafka.tools.ReplicaVerificationTool",
  reassign: "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
  acls: "org.apache.kafka.tools.AclCommand",
  cluster: "org.apache.kafka.tools.ClusterTool",
  features: "org.apache.kafka.tools.FeatureCommand",
  quorum: "org.apache.kafka.tools.MetadataQuorumCommand",
  transactions: "org.apache.kafka.tools.TransactionsCommand",
  election: "org.apache.kafka.tools.LeaderElectionCommand",
  "client metrics": "org.apache.kafka.tools.ClientMetricsCommand",
  dump: "kafka.tools.DumpLogSegments",
} as const;

export type KafkaTool = keyof typeof MAINS;

/** A tool that runs on until it is stopped. */
export interface RunningTool {
  readonly finished: Promise<Finished>;
  /** What SIGTERM would do. */
  stop(): Promise<Finished>;
}

/** One JVM, started with its first tool. Some tools count in static fields: who compares such counts takes two. */
export class ToolsJvm {
  private running: Running | undefined;
  private taken = 0;
  private commands = 0;
  private readonly waiting = new Map<string, (answer: readonly string[]) => void>();

  private start(): Running {
    if (this.running !== undefined) return this.running;
    const source = fileURLToPath(new URL("./KafkaTools.java", import.meta.url));
    const running = new Running(tool("java"), javaArgs(source, []), { keepInput: true });
    this.running = running;
    this.taken = 0;
    running.child.stdout?.on("data", () => this.answer(running.stdout));
    void running.exited.then((code) => {
      this.running = undefined;
      const answer = ["1", "", base64(`the tools' JVM ended with ${code}: ${running.stderr}`)];
      for (const done of this.waiting.values()) done(answer);
    });
    return running;
  }

  private answer(stdout: string): void {
    for (let end = stdout.indexOf("\n", this.taken); end >= 0; end = stdout.indexOf("\n", this.taken)) {
      const [id = "", ...answer] = stdout.slice(this.taken, end).split("\t");
      this.taken = end + 1;
      this.waiting.get(id)?.(answer);
    }
  }

  /** Starts a tool; the caller stops it. */
  begin(main: string, args: readonly string[], input: string | Buffer = ""): RunningTool {
    const { stdin } = this.start().child;
    const id = String(this.commands++);
    const startedAt = performance.now();
    const finished = new Promise<Finished>((resolve) => {
      this.waiting.set(id, ([code, stdout = "", stderr = ""]) => {
        this.waiting.delete(id);
        const text = (field: string) => Buffer.from(field, "base64").toString();
        const elapsedMs = performance.now() - startedAt;
        resolve({ code: Number(code), stdout: text(stdout), stderr: text(stderr), elapsedMs });
      });
    });
    stdin?.write(`${[id, main, base64(input), ...args.map(base64)].join("\t")}\n`);
    const stop = () => {
      stdin?.write(`${id}\t!stop\n`);
      return finished;
    };
    return { finished, stop };
  }

  /** Runs a tool to its end; rejects as `run` does. */
  async run(
    main: string,
    args: readonly string[],
    { input = "", timeoutMs = 60_000, expect = [0] }: Pick<RunOptions, "input" | "timeoutMs" | "expect"> = {},
  ): Promise<Finished> {
    const { finished, stop } = this.begin(main, args, input);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      void stop();
    }, timeoutMs);
    const done = await finished;
    clearTimeout(timer);
    if (late || !expect.includes(done.code ?? -1)) {
      const how = late ? `was stopped after ${timeoutMs} ms` : `ended with ${done.code}`;
      throw new Error(`${main} ${args.join(" ")} ${how}:\n${(done.stdout + done.stderr).slice(-4_000)}`);
    }
    return done;
  }

  async close(): Promise<void> {
    await this.running?.end("SIGKILL");
  }
}

const shared = new ToolsJvm();

/** Runs one of Kafka's command-line tools in the JVM that a test file's tools share. */
export const java: ToolsJvm["run"] = (main, args, options) => shared.run(main, args, options);
