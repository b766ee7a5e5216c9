/**
 * The tables of docs/kafka.md, from the registered APIs and settings: `npm run docs` writes them anew, a test
 * holds them. What Apache Kafka's brokers serve besides is listed here with the reason for which it is not.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { apis } from "../../src/kafka/apis/index.ts";
import { describeSettings, possibleSettings } from "../../src/kafka/stream-config.ts";
import { DEFAULT_SETTINGS } from "../../src/log/stream-state.ts";

export const DOCUMENT = new URL("../../docs/kafka.md", import.meta.url);
const BEGIN = "<!-- begin: written by npm run docs -->\n";
const END = "<!-- end -->";
const SETTINGS_BEGIN = "<!-- begin: settings, written by npm run docs -->\n";
const SETTINGS_END = "<!-- end: settings -->";

/** What the brokers of Apache Kafka 4.1 list as theirs (`listeners` in its message definitions). */
export const KAFKA: Readonly<Record<number, string>> = {
  ...{ 0: "Produce 3-13", 1: "Fetch 4-18", 2: "ListOffsets 1-10", 3: "Metadata 0-13" },
  ...{ 8: "OffsetCommit 2-10", 9: "OffsetFetch 1-10", 10: "FindCoordinator 0-6", 11: "JoinGroup 0-9" },
  ...{ 12: "Heartbeat 0-4", 13: "LeaveGroup 0-5", 14: "SyncGroup 0-5", 15: "DescribeGroups 0-6" },
  ...{ 16: "ListGroups 0-5", 17: "SaslHandshake 0-1", 18: "ApiVersions 0-4", 19: "CreateTopics 2-7" },
  ...{ 20: "DeleteTopics 1-6", 21: "DeleteRecords 0-2", 22: "InitProducerId 0-6" },
  ...{ 23: "OffsetForLeaderEpoch 2-4", 24: "AddPartitionsToTxn 0-5", 25: "AddOffsetsToTxn 0-4" },
  ...{ 26: "EndTxn 0-5", 27: "WriteTxnMarkers 1", 28: "TxnOffsetCommit 0-5", 29: "DescribeAcls 1-3" },
  ...{ 30: "CreateAcls 1-3", 31: "DeleteAcls 1-3", 32: "DescribeConfigs 1-4", 33: "AlterConfigs 0-2" },
  ...{ 34: "AlterReplicaLogDirs 1-2", 35: "DescribeLogDirs 1-4", 36: "SaslAuthenticate 0-2" },
  ...{ 37: "CreatePartitions 0-3", 38: "CreateDelegationToken 1-3", 39: "RenewDelegationToken 1-2" },
  ...{ 40: "ExpireDelegationToken 1-2", 41: "DescribeDelegationToken 1-3", 42: "DeleteGroups 0-2" },
  ...{ 43: "ElectLeaders 0-2", 44: "IncrementalAlterConfigs 0-1", 45: "AlterPartitionReassignments 0-1" },
  ...{ 46: "ListPartitionReassignments 0", 47: "OffsetDelete 0", 48: "DescribeClientQuotas 0-1" },
  ...{ 49: "AlterClientQuotas 0-1", 50: "DescribeUserScramCredentials 0" },
  ...{ 51: "AlterUserScramCredentials 0", 55: "DescribeQuorum 0-2", 57: "UpdateFeatures 0-2" },
  ...{ 60: "DescribeCluster 0-2", 61: "DescribeProducers 0", 64: "UnregisterBroker 0" },
  ...{ 65: "DescribeTransactions 0", 66: "ListTransactions 0-2", 68: "ConsumerGroupHeartbeat 0-1" },
  ...{ 69: "ConsumerGroupDescribe 0-1", 71: "GetTelemetrySubscriptions 0", 72: "PushTelemetry 0" },
  ...{ 74: "ListConfigResources 0-1", 75: "DescribeTopicPartitions 0", 76: "ShareGroupHeartbeat 1" },
  ...{ 77: "ShareGroupDescribe 1", 78: "ShareFetch 1", 79: "ShareAcknowledge 1", 80: "AddRaftVoter 0" },
  ...{ 81: "RemoveRaftVoter 0", 83: "InitializeShareGroupState 0", 84: "ReadShareGroupState 0" },
  ...{ 85: "WriteShareGroupState 0", 86: "DeleteShareGroupState 0", 87: "ReadShareGroupStateSummary 0" },
  ...{ 88: "StreamsGroupHeartbeat 0", 89: "StreamsGroupDescribe 0", 90: "DescribeShareGroupOffsets 0" },
  ...{ 91: "AlterShareGroupOffsets 0", 92: "DeleteShareGroupOffsets 0" },
};

const REASONS: readonly [keys: readonly number[], reason: string][] = [
  [[24, 25, 26, 27, 28], "no transactions"],
  [[38, 39, 40, 41, 50, 51], "no SASL"],
  [[48, 49], "no quotas by client"],
  [[57, 64, 80, 81], "one node, no KRaft"],
  [[68, 69], "groups are classic ones (`group.protocol=classic`)"],
  [[71, 72], "no client metrics are collected"],
  [[76, 77, 78, 79, 83, 84, 85, 86, 87, 90, 91, 92], "no share groups"],
  [[88, 89], "no streams groups; Kafka Streams goes with classic ones, without transactions"],
];

const range = (min: number, max: number) => (min === max ? `${min}` : `${min}-${max}`);

/** Both tables as Markdown; throws for an API of which nothing is said. */
export function apiTable(): string {
  const served = apis.map(({ key, name, versions, advertised, limits = "" }) => {
    const theirs = KAFKA[key]?.split(" ");
    if (theirs?.[0] !== name) throw new Error(`${name} (${key}) is not what Kafka calls it`);
    const shown = range(versions.min, versions.max);
    const note = [advertised && `${range(advertised.min, advertised.max)} are advertised`, limits]
      .filter(Boolean)
      .join("; ");
    return [`${key}`, name, shown, `${theirs[1]}`, note];
  });
  const keys = new Set(apis.map(({ key }) => key));
  const others = Object.entries(KAFKA).filter(([key]) => !keys.has(Number(key)));
  const missing = others.map(([key, text]) => {
    const reason = REASONS.find(([of]) => of.includes(Number(key)))?.[1];
    if (reason === undefined) throw new Error(`why is ${text} not served?`);
    return [key, `${text.split(" ")[0]}`, reason];
  });
  return `${markdown(["key", "API", "versions", "Kafka 4.1", "what of it is not here"], served)}
Not served; the connection of a client that asks all the same is closed, as Kafka does for what it does not know:

${markdown(["key", "API", "why not"], missing)}`;
}

/** Padded, as the formatter would have it. */
function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((text, at) => Math.max(text.length, ...rows.map((row) => (row[at] ?? "").length)));
  const line = (cells: readonly string[], fill: string) =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at] as number, fill)).join(" | ")} |\n`;
  const rule = head.map(() => "");
  return [line(head, " "), line(rule, "-"), ...rows.map((row) => line(row, " "))].join("");
}

/** The document as it is, and as it should be. */
export function document(): { readonly is: string; readonly should: string } {
  const is = readFileSync(DOCUMENT, "utf8");
  const withApis = between(is, BEGIN, END, apiTable());
  return { is, should: between(withApis, SETTINGS_BEGIN, SETTINGS_END, settingsTable()) };
}

function between(text: string, begin: string, end: string, table: string): string {
  const from = text.indexOf(begin) + begin.length;
  return `${text.slice(0, from)}\n${table}\n${text.slice(text.indexOf(end))}`;
}

/** A stream's settings with their default and the values that there are. */
function settingsTable(): string {
  const defaults = new Map(describeSettings(DEFAULT_SETTINGS).map(({ name, value }) => [name, value]));
  const rows = possibleSettings().map(({ name, values }) => [
    `\`${name}\``,
    defaults.get(name) ?? "",
    values,
  ]);
  return markdown(["setting", "default", "may be"], rows);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) writeFileSync(DOCUMENT, document().should);
