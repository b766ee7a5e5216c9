/** The script of Kafka's own command-line tools: what an administrator does, the mistakes included. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { java, type KafkaTool, MAINS, type RunningTool, ToolsJvm } from "../support/kafka-tools.ts";
import { eventually } from "../support/process.ts";
import { type Judged, Transcript } from "./transcript.ts";

const ANY_CODE = Array.from({ length: 256 }, (_, code) => code);

/** One server before the tools. */
class Session {
  readonly transcript: Transcript;
  readonly folder: string;
  readonly jvm = new ToolsJvm();
  private readonly judged: Judged;

  constructor(judged: Judged, folder: string) {
    this.judged = judged;
    this.folder = folder;
    this.transcript = new Transcript(judged);
  }

  get server(): readonly string[] {
    return ["--bootstrap-server", this.judged.brokers];
  }

  /** Runs a tool and keeps what it says; arguments are separated by spaces, or given as a list. */
  async step(
    name: string,
    tool: KafkaTool,
    words: string | readonly string[],
    { input = "", sorted = false, server = this.server, edit = (text: string) => text } = {},
  ): Promise<string> {
    const args = typeof words === "string" ? words.split(" ").filter((word) => word !== "") : words;
    const done = await this.jvm.run(MAINS[tool], [...server, ...args], {
      input,
      expect: ANY_CODE,
      timeoutMs: 40_000,
    });
    this.transcript.finished(`tools: ${name}`, { ...done, stdout: edit(done.stdout) }, sorted);
    return done.stdout;
  }

  /** Runs a tool for what it does, not for what it says. */
  async does(tool: KafkaTool, words: string, input = ""): Promise<string> {
    const { stdout } = await this.jvm.run(MAINS[tool], [...this.server, ...words.split(" ")], { input });
    return stdout;
  }

  begin(tool: KafkaTool, words: string): RunningTool {
    return this.jvm.begin(MAINS[tool], [...this.server, ...words.split(" ")]);
  }
}

const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => `${line(index)}\n`).join("");

async function topics(s: Session): Promise<void> {
  const step = (name: string, words: string, options = {}) =>
    s.step(`topics, ${name}`, "topics", words, options);
  await step("create", "--create --topic plain --partitions 3");
  await step(
    "create with settings",
    "--create --topic set --partitions 1 --config retention.ms=3600000 --config max.message.bytes=20000",
  );
  await step("create without a number of partitions", "--create --topic by-default");
  await step("create what is there", "--create --topic plain --partitions 3");
  await step("create if it is not there", "--create --if-not-exists --topic plain --partitions 3");
  await step("create with a bad name", "--create --topic a/b --partitions 1");
  await step("create with two names for one metric", "--create --topic by.default --partitions 1");
  await step("create with two replicas", "--create --topic twice --partitions 1 --replication-factor 2");
  await step("create with no partitions", "--create --topic none --partitions 0");
  await step("create with an unknown setting", "--create --topic odd --partitions 1 --config no.such=1");
  await step("create with a bad value", "--create --topic odd --partitions 1 --config retention.ms=soon");
  await step(
    "create with a value out of bounds",
    "--create --topic odd --partitions 1 --config segment.bytes=1",
  );
  await step("create by replica assignment", "--create --topic assigned --replica-assignment 0,0");
  await step("list", "--list", { sorted: true });
  await step("describe", "--describe --topic plain");
  const id = / TopicId: (\S+)/.exec(
    (await s.does("topics", "--describe --topic plain")).replaceAll("\t", " "),
  )?.[1];
  const edit = (text: string) => text.replace(/Configs:.*$/gm, "");
  await step("describe by its id", `--describe --topic-id ${id}`, { edit });
  await step("describe by an id that is not there", "--describe --topic-id AAAAAAAAAAAAAAAAAAAAAQ");
  await step("describe with settings", "--describe --topic set");
  await step("describe what was assigned", "--describe --topic assigned");
  await step("describe what is not there", "--describe --topic nowhere");
  await step("describe with overrides", "--describe --topics-with-overrides --topic plain|set");
  await step("describe what is under-replicated", "--describe --under-replicated-partitions");
  await step("describe what is unavailable", "--describe --unavailable-partitions");
  await step("describe what is at the minimum", "--describe --at-min-isr-partitions --topic plain");
  await step("add partitions", "--alter --topic set --partitions 2");
  await step("take partitions away", "--alter --topic plain --partitions 2");
  await step("alter what is not there", "--alter --topic nowhere --partitions 2");
  await step("describe after it grew", "--describe --topic set");
  await step("delete", "--delete --topic by-default");
  await step("delete what is not there", "--delete --topic nowhere");
  await step("list what is left", "--list --exclude-internal", { sorted: true });
  await step("create with a dot", "--create --topic one.metric --partitions 1");
  await step("create with an underscore instead", "--create --topic one_metric --partitions 1");
  await s.does("topics", "--delete --topic one.metric");
}

/** Without what a server says about the origin of a value: Sluice does not (DescribeConfigs). */
const valuesOnly = (text: string): string => text.replace(/ sensitive=(false|true) synonyms=\{.*\}$/gm, "");

async function configs(s: Session): Promise<void> {
  const step = (name: string, words: string) =>
    s.step(`configs, ${name}`, "configs", words, { sorted: true, edit: valuesOnly });
  const set = "--entity-type topics --entity-name set";
  const alter = (name: string, change: string) => step(name, `--alter ${set} ${change}`);
  await step("describe", `--describe ${set}`);
  await step("describe with defaults", `--describe --all ${set}`);
  await alter("add", "--add-config retention.bytes=1000000,segment.ms=600000");
  await alter("add a list", "--add-config cleanup.policy=[compact,delete]");
  await alter("add compaction", "--add-config cleanup.policy=compact");
  await alter("add a time stamp type", "--add-config message.timestamp.type=LogAppendTime");
  await alter("add a ratio", "--add-config min.cleanable.dirty.ratio=0.3");
  await alter("add a codec", "--add-config compression.type=gzip");
  await step("describe after additions", `--describe ${set}`);
  await alter("take away", "--delete-config retention.bytes,cleanup.policy");
  await alter("take away a codec", "--delete-config compression.type");
  await alter("take away what is not set", "--delete-config segment.bytes");
  await step("describe after removals", `--describe ${set}`);
  await alter("add an unknown setting", "--add-config no.such=1");
  await alter("add a bad value", "--add-config retention.ms=soon");
  await alter("add a value out of bounds", "--add-config min.cleanable.dirty.ratio=2");
  const nowhere = "--entity-type topics --entity-name nowhere";
  await step("alter what is not there", `--alter ${nowhere} --add-config retention.ms=1`);
  await step("describe what is not there", `--describe ${nowhere}`);
  const broker = "--entity-type brokers --entity-name 0";
  await step("describe the broker's own", `--describe ${broker}`);
  await step("describe brokers' defaults", "--describe --entity-type brokers --entity-default");
  await step("alter the broker", `--alter ${broker} --add-config message.max.bytes=2000000`);
  await step("describe clients", "--describe --entity-type clients");
  await step("describe users", "--describe --entity-type users");
  await step("describe groups", "--describe --entity-type groups");
}

async function records(s: Session): Promise<void> {
  const read = "--from-beginning --timeout-ms 10000";
  const all = ["partition", "offset", "timestamp", "key", "headers", "value", "delivery", "epoch"]
    .map((name) => `--property print.${name}=true`)
    .join(" ");
  await s.does("topics", "--create --topic records --partitions 1");
  await s.step(
    "console producer, keys, headers and nulls",
    "produce",
    "--topic records --property parse.key=true --property parse.headers=true --property null.marker=NULL",
    { input: "a:1,b:two\tk1\tv1\nNULL\tk2\tNULL\na:,a:again\tNULL\tv3\nc:3\t\t\n" },
  );
  await s.step(
    "console producer, a line without a key",
    "produce",
    "--topic records --property parse.key=true",
    {
      input: "no-key-here\n",
    },
  );
  for (const codec of ["none", "gzip", "snappy", "lz4", "zstd"]) {
    const input = lines(40, (index) => `${codec} ${index} ${"payload ".repeat(5)}`);
    await s.step(`console producer, ${codec}`, "produce", `--topic records --compression-codec ${codec}`, {
      input,
    });
  }
  for (const acks of ["0", "1", "all"]) {
    const input = lines(3, (index) => `acks ${acks} ${index}`);
    const plain = "--producer-property enable.idempotence=false";
    await s.step(
      `console producer, acks ${acks}`,
      "produce",
      `--topic records --sync --request-required-acks ${acks} ${plain}`,
      { input },
    );
  }
  await s.step(
    "console consumer, everything",
    "consume",
    `--topic records ${read} --max-messages 213 ${all}`,
  );
  await s.step(
    "console consumer, read committed",
    "consume",
    `--topic records ${read} --max-messages 213 --isolation-level read_committed`,
  );
  await s.step(
    "console consumer, from an offset",
    "consume",
    `--topic records --partition 0 --offset 200 --max-messages 5 --timeout-ms 10000 ${all}`,
  );
  await s.step(
    "console consumer, from beyond the end",
    "consume",
    "--topic records --partition 0 --offset 1000 --max-messages 1 --timeout-ms 3000",
  );
  await s.step(
    "console consumer, from beyond the end, earliest",
    "consume",
    "--topic records --partition 0 --offset 1000 --max-messages 2 --timeout-ms 10000 --consumer-property auto.offset.reset=earliest",
  );
  await s.step(
    "console consumer, a partition that is not there",
    "consume",
    "--topic records --partition 7 --offset earliest --timeout-ms 1000",
  );
  await s.step("console consumer, a pattern", "consume", `--include rec.* ${read} --max-messages 4`);
  await s.step(
    "console consumer, a topic that is not there",
    "consume",
    `--topic nowhere-to-be-read --timeout-ms 1500 --consumer-property allow.auto.create.topics=false`,
  );
  await s.step("console producer, a record that is too large", "produce", "--topic set", {
    input: `${"x".repeat(30_000)}\n`,
  });
  await s.step(
    "console producer, a bad name",
    "produce",
    "--topic a/b --producer-property max.block.ms=4000",
    { input: "x\n" },
  );
  await s.does("topics", "--create --topic transacted --partitions 1");
  await s.step(
    "producer performance, a transactional id",
    "producer performance",
    `--topic transacted --num-records 1 --record-size 10 --throughput -1 --transactional-id t --transaction-duration-ms 100 --producer-props bootstrap.servers=${s.server[1]} max.block.ms=5000`,
    { server: [], edit: (text) => text.replace(/,.*/s, "") },
  );
}

async function groups(s: Session): Promise<void> {
  const step = (name: string, words: string, options = {}) =>
    s.step(`groups, ${name}`, "groups", words, options);
  await s.does("topics", "--create --topic grouped --partitions 2");
  for (const partition of [0, 1]) {
    // By key: the default partitioner sends k to one and key-1 to the other, whichever.
    const input = lines(20, (index) => `${partition === 0 ? "k" : "key-3"}\tvalue ${index}`);
    await s.does("produce", "--topic grouped --property parse.key=true", input);
  }
  await s.step("offsets, where the keys went", "offsets", "--topic grouped");
  await s.does(
    "consume",
    "--topic grouped --group readers --from-beginning --max-messages 40 --timeout-ms 10000",
  );
  await s.does(
    "consume",
    "--topic records --group others --from-beginning --max-messages 10 --timeout-ms 10000",
  );
  await step("list", "--list", { sorted: true });
  await step("list with states", "--list --state", { sorted: true });
  await step("list by state", "--list --state Stable");
  await step("list with types", "--list --type", { sorted: true });
  await step("describe", "--describe --group readers --offsets");
  await step("describe the state", "--describe --group readers --state");
  await step("describe members", "--describe --group readers --members");
  await step("describe all groups", "--describe --all-groups", { sorted: true });
  await step("describe what is not there", "--describe --group nobody");
  await step("describe the state of what is not there", "--describe --group nobody --state");
  await s.step("groups of every kind", "all groups", "--list", { sorted: true });

  const reset = (name: string, words: string) =>
    step(`reset ${name}`, `--reset-offsets --group readers ${words}`, { sorted: true });
  await reset("to the earliest, only looking", "--topic grouped --to-earliest --dry-run");
  await reset("to the earliest", "--topic grouped --to-earliest --execute");
  await reset("to the latest", "--topic grouped --to-latest --execute");
  await reset("to an offset", "--topic grouped:0 --to-offset 3 --execute");
  await reset("to an offset beyond the end", "--topic grouped:0 --to-offset 3000 --execute");
  await reset("by a shift", "--topic grouped:0,1 --shift-by -2 --execute");
  await reset("by a shift beyond the beginning", "--topic grouped --shift-by -2000 --execute");
  await reset("by a duration", "--topic grouped --by-duration PT1H --execute");
  await reset("to a past date", "--topic grouped --to-datetime 2020-01-01T00:00:00.000 --execute");
  await reset("to a future date", "--topic grouped --to-datetime 2100-01-01T00:00:00.000 --execute");
  await reset("to where it is", "--topic grouped --to-current --execute");
  await reset("of all topics", "--all-topics --to-earliest --execute");
  const file = join(s.folder, "offsets.csv");
  await writeFile(file, "readers,grouped,0,5\nreaders,grouped,1,6\n");
  await reset("from a file", `--from-file ${file} --execute`);
  await reset("exported", "--topic grouped --to-current --export --dry-run");
  await reset("of a topic that is not there", "--topic nowhere --to-earliest --execute");
  await step(
    "reset a group that is not there",
    "--reset-offsets --group fresh --topic grouped --to-offset 4 --execute",
    { sorted: true },
  );
  await step("describe after resets", "--describe --group readers --offsets");
  await step("describe a group made by a reset", "--describe --group fresh --offsets");

  await step("delete offsets", "--delete-offsets --group readers --topic grouped:0");
  await step("delete offsets that are not there", "--delete-offsets --group readers --topic nowhere:0");
  await step(
    "delete offsets of a group that is not there",
    "--delete-offsets --group nobody --topic grouped",
  );
  await step("describe after offsets were deleted", "--describe --group readers --offsets");
  await step("validate regular expressions", "--validate-regex gr.*");
  await step("delete", "--delete --group others");
  await step("delete what is not there", "--delete --group nobody");
  await step("list what is left", "--list", { sorted: true });
  await s.step(
    "console consumer, committed offsets",
    "consume",
    "--topic __consumer_offsets --formatter org.apache.kafka.tools.consumer.OffsetsMessageFormatter --timeout-ms 3000 --from-beginning --max-messages 2",
  );
}

async function liveGroup(s: Session): Promise<void> {
  const member = s.begin(
    "consume",
    "--topic grouped --group live --consumer-property client.id=watcher --timeout-ms 60000 --consumer-property session.timeout.ms=6000",
  );
  try {
    await eventually(
      async () => (await s.does("groups", "--describe --group live --state")).includes("Stable"),
      "the group to be stable",
    );
    const step = (name: string, words: string) => s.step(`live group, ${name}`, "groups", words);
    await step("describe", "--describe --group live");
    await step("describe the state", "--describe --group live --state --verbose");
    await step("describe members", "--describe --group live --members --verbose");
    await step("list with states", "--list --state Stable");
    await step("reset", "--reset-offsets --group live --topic grouped --to-earliest --execute");
    await step("delete", "--delete --group live");
    await step("delete offsets", "--delete-offsets --group live --topic grouped");
    await step("remove its members", "--describe --group live --members");
  } finally {
    await member.stop();
  }
  await s.step("live group, after its member left", "groups", "--describe --group live --state");
}

async function offsets(s: Session): Promise<void> {
  const step = (name: string, words: string) =>
    s.step(`offsets, ${name}`, "offsets", words, { sorted: true });
  for (const [name, time] of [
    ["latest", "-1"],
    ["earliest", "-2"],
    ["of the newest time", "-3"],
    ["earliest local", "-4"],
    ["latest tiered", "-5"],
    ["of a time long ago", "1000"],
    ["of a time to come", "4000000000000"],
  ]) {
    await step(name as string, `--topic records --time ${time}`);
  }
  await step("of all topics", "--exclude-internal-topics");
  await step("of some partitions", "--topic-partitions plain:0-2,grouped:1");
  await step("of a pattern", "--topic p.*n --partitions 0,1");
  await step("of what is not there", "--topic nowhere");

  const cut = async (name: string, partitions: object[]) => {
    const file = join(s.folder, "cut.json");
    await writeFile(file, JSON.stringify({ version: 1, partitions }));
    await s.step(`delete records, ${name}`, "delete records", `--offset-json-file ${file}`, { sorted: true });
  };
  await cut("up to an offset", [{ topic: "records", partition: 0, offset: 50 }]);
  await step("earliest after records were deleted", "--topic records --time -2");
  await s.step(
    "console consumer, after records were deleted",
    "consume",
    "--topic records --from-beginning --max-messages 1 --timeout-ms 10000 --property print.offset=true",
  );
  await cut("below the beginning", [{ topic: "records", partition: 0, offset: 10 }]);
  await cut("beyond the end", [{ topic: "records", partition: 0, offset: 5000 }]);
  await cut("everything", [
    { topic: "grouped", partition: 0, offset: -1 },
    { topic: "grouped", partition: 1, offset: -1 },
  ]);
  await s.step(
    "groups, describe after records were deleted",
    "groups",
    "--describe --group readers --offsets",
  );
}

/** JSON with its fields in order, and without those that nobody can foresee. */
const logDirs = (text: string): string =>
  text.replace(/^\{.*\}$/m, (json) => {
    const { brokers } = JSON.parse(json);
    return brokers
      .flatMap(
        ({
          broker,
          logDirs,
        }: {
          broker: number;
          logDirs: {
            logDir: string;
            error: unknown;
            partitions: { partition: string; size: number; offsetLag: number; isFuture: boolean }[];
          }[];
        }) =>
          logDirs.flatMap(({ logDir, error, partitions }) => [
            `broker ${broker} logDir ${logDir} error ${error}`,
            ...partitions
              .map(
                ({ partition, size, offsetLag, isFuture }) =>
                  `${partition} size ${size} lag ${offsetLag} future ${isFuture}`,
              )
              .sort(),
          ]),
      )
      .join("\n");
  });

async function cluster(s: Session): Promise<void> {
  const { server } = s;
  await s.step("log dirs", "log dirs", "--describe --topic-list plain,grouped", { edit: logDirs });
  await s.step("log dirs of a broker that is not there", "log dirs", "--describe --broker-list 7", {
    edit: logDirs,
  });
  // What is missing here is missing in the table of APIs too; the tool itself has to work.
  await s.step("api versions", "api versions", "", {
    edit: (text) =>
      text
        .split("\n")
        .filter((line) => !/^\t/.test(line))
        .join("\n"),
  });
  await s.step("cluster, its id", "cluster", ["cluster-id", ...server], { server: [] });
  await s.step("cluster, its endpoints", "cluster", ["list-endpoints", ...server], {
    server: [],
    sorted: true,
  });
  await s.step("features", "features", "describe", {
    sorted: true,
    edit: (text) => text.replace(/\s*SupportedMinVersion.*$/gm, ""),
  });
  await s.step("quorum, its state", "quorum", "describe --status", {
    edit: (text) => text.replace(/^(?!ClusterId).*$/gm, ""),
  });
  await s.step("acls, list", "acls", "--list");
  await s.step("acls, add", "acls", "--add --allow-principal User:a --operation Read --topic plain");
  await s.step("acls, remove", "acls", "--remove --force --topic plain");
  await s.step("reassign, list", "reassign", "--list");
  await s.step("transactions, list", "transactions", "list", {
    edit: (text) => text.replace(/\b\d+\b/g, "<number>"),
  });
  await s.step(
    "transactions, describe producers",
    "transactions",
    "describe-producers --topic plain --partition 0",
  );
  await s.step("transactions, find hanging", "transactions", "find-hanging --broker-id 0");
  await s.step("elections", "election", "--election-type PREFERRED --topic plain --partition 0");
  await s.step("client metrics", "client metrics", "--list");
}

/** One JSON object a line; its times go. */
const verifiable = (text: string): string =>
  text.replace(/"(timestamp|avg_throughput|target_throughput)":-?[\d.]+,?/g, "");

async function verifiableClients(s: Session): Promise<void> {
  await s.does("topics", "--create --topic verifiable --partitions 1");
  // The sum counts: of the line for each record one has been missing, with Apache Kafka.
  const sums = (text: string) => verifiable(text).replace(/^.*"producer_send_success".*$/gm, "");
  const options = { edit: sums };
  for (const acks of [1, -1]) {
    const words = `--topic verifiable --max-messages 50 --throughput -1 --acks ${acks} --value-prefix ${acks + 1}`;
    await s.step(`verifiable producer, acks ${acks}`, "verifiable producer", words, {
      ...options,
      sorted: true,
    });
  }
  await s.step(
    "verifiable producer, given times",
    "verifiable producer",
    "--topic verifiable --max-messages 10 --throughput -1 --message-create-time 1600000000000",
    { ...options, sorted: true },
  );
  const events = (text: string) =>
    verifiable(text)
      .split("\n")
      // How the records are spread over polls is chance.
      .filter((line) => !line.includes("records_consumed") && !line.includes("offsets_committed"))
      .join("\n");
  await s.step(
    "verifiable consumer",
    "verifiable consumer",
    "--topic verifiable --group-id verified --max-messages 110 --reset-policy earliest",
    { edit: events },
  );
  await s.step("groups, describe the verified one", "groups", "--describe --group verified --offsets");
}

/** What lies on the disk, by Kafka's DumpLogSegments. */
export async function dumped(judged: Judged): Promise<Transcript> {
  const transcript = new Transcript(judged);
  const found = await readdir(judged.dataDir, { recursive: true });
  for (const topic of ["records-0", "grouped-0"]) {
    for (const ending of [".log", ".index", ".timeindex"]) {
      const files = found.filter((name) => `/${name}`.includes(`/${topic}/`) && name.endsWith(ending)).sort();
      const args = ["--files", files.map((name) => join(judged.dataDir, name)).join(",")];
      args.push(ending === ".log" ? "--deep-iteration" : "--verify-index-only");
      const { stdout } = await java(MAINS.dump, args, { expect: ANY_CODE });
      const text = stdout
        .replaceAll(/\S*\/(\w+-\d+\/\d{20}\.\w+)/g, "$1")
        .replaceAll(/ (crc|CreateTime|position|size): -?\d+/g, "");
      transcript.add(`dump: ${topic}${ending}`, text);
    }
  }
  return transcript;
}

export async function kafkaTools(judged: Judged): Promise<Transcript> {
  const folder = await mkdtemp(join(tmpdir(), "sluice-tools-"));
  const session = new Session(judged, folder);
  try {
    for (const part of [topics, configs, records, groups, liveGroup, offsets, cluster, verifiableClients])
      await part(session);
  } finally {
    await session.jvm.close();
    await rm(folder, { recursive: true, force: true });
  }
  return session.transcript;
}
