/** `sluice groups [group]`: who reads together, and how far behind. */
import type { Command } from "commander";
import { type Admin, AssignerProtocol, type GroupDescription } from "kafkajs";
import pc from "picocolors";
import { grouped, plural } from "../config/units.ts";
import { withAdmin } from "../subscriber/kafka-client.ts";
import { type BrokerOptions, brokerOptions, brokersOf, chosen } from "./broker.ts";
import { table } from "./table.ts";

/** How far a group has read one partition. */
interface PlaceReport {
  readonly stream: string;
  readonly partition: number;
  readonly committedOffset: number;
  readonly logEndOffset: number;
  /** Records not read yet. */
  readonly lag: number;
  /** Client id of the member that reads it; null when nobody does. */
  readonly member: string | null;
}

interface GroupReport {
  readonly group: string;
  readonly state: string;
  readonly protocol: string;
  readonly members: readonly {
    readonly clientId: string;
    readonly host: string;
    readonly memberId: string;
  }[];
  readonly places: readonly PlaceReport[];
}

interface Options extends BrokerOptions {
  readonly json?: boolean;
}

export function register(program: Command): void {
  brokerOptions(
    program
      .command("groups")
      .description("List the consumer groups, or describe one: its members, what each reads, and the lag.")
      .argument("[group]", "a group to describe"),
  )
    .option("--json", "one JSON document")
    .action(run);
}

async function run(group: string | undefined, options: Options): Promise<void> {
  const brokers = await brokersOf(options);
  const reports = await withAdmin(brokers, async (admin) => {
    const all = (await admin.listGroups()).groups.map(({ groupId }) => groupId).sort();
    return report(admin, group === undefined ? all : [chosen("group", group, all)]);
  });
  const [first] = reports;
  if (options.json) console.log(JSON.stringify(group === undefined ? reports : first, null, 2));
  else
    console.log(
      group === undefined || first === undefined ? listText(reports, brokers) : describeText(first),
    );
}

async function report(admin: Admin, names: readonly string[]): Promise<GroupReport[]> {
  if (names.length === 0) return [];
  const { groups } = await admin.describeGroups([...names]);
  const ends = new Map<string, Promise<ReadonlyMap<number, number>>>();
  const reports: GroupReport[] = [];
  for (const group of groups) {
    const { groupId, state, protocol } = group;
    const readers = readersOf(group);
    const places: PlaceReport[] = [];
    for (const { topic: stream, partitions } of await admin.fetchOffsets({ groupId })) {
      if (!ends.has(stream)) ends.set(stream, endsOf(admin, stream));
      const logEnds = await ends.get(stream);
      for (const { partition, offset } of partitions) {
        const committedOffset = Number(offset);
        const logEndOffset = logEnds?.get(partition);
        // -1: nothing committed. No end: the stream was deleted.
        if (committedOffset < 0 || logEndOffset === undefined) continue;
        const lag = Math.max(0, logEndOffset - committedOffset);
        const member = readers.get(`${stream}-${partition}`) ?? null;
        places.push({ stream, partition, committedOffset, logEndOffset, lag, member });
      }
    }
    places.sort((a, b) => a.stream.localeCompare(b.stream) || a.partition - b.partition);
    const members = group.members.map(({ clientId, clientHost, memberId }) => ({
      clientId,
      host: clientHost.replace(/^\//, ""), // Kafka's form is Java's, with a slash
      memberId,
    }));
    reports.push({ group: groupId, state, protocol, members, places });
  }
  return reports;
}

/** `stream-partition` → client id of the member that reads it. */
function readersOf({ members }: GroupDescription): Map<string, string> {
  const readers = new Map<string, string>();
  for (const { clientId, memberAssignment } of members) {
    try {
      const streams = AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment ?? {};
      for (const [stream, partitions] of Object.entries(streams)) {
        for (const index of partitions) readers.set(`${stream}-${index}`, clientId);
      }
    } catch {
      // Nothing assigned yet; or Kafka Connect and others, who put their own bytes there.
    }
  }
  return readers;
}

async function endsOf(admin: Admin, stream: string): Promise<ReadonlyMap<number, number>> {
  try {
    const offsets = await admin.fetchTopicOffsets(stream);
    return new Map(offsets.map(({ partition, high }) => [partition, Number(high)]));
  } catch {
    return new Map(); // committed once, and deleted since
  }
}

function lagOf({ places }: GroupReport): number {
  return places.reduce((sum, { lag }) => sum + lag, 0);
}

function listText(reports: readonly GroupReport[], brokers: readonly string[]): string {
  const rows = reports.map((report) => [
    report.group,
    report.state,
    report.members.length,
    [...new Set(report.places.map(({ stream }) => stream))].join(", ") || "–",
    lagOf(report),
  ]);
  const lag = reports.reduce((sum, report) => sum + lagOf(report), 0);
  const total = `${plural(reports.length, "group")}, ${plural(lag, "record")} behind, at ${brokers}`;
  return `${table(["GROUP", "STATE", "MEMBERS", "STREAMS", "LAG"], rows)}\n${pc.dim(total)}`;
}

function describeText(report: GroupReport): string {
  const rows = report.places.map(({ stream, partition, committedOffset, logEndOffset, lag, member }) => [
    stream,
    partition,
    committedOffset,
    logEndOffset,
    lag,
    member ?? "–",
  ]);
  const members = report.members.map(({ clientId, host }) => `  ${clientId}  ${host}`);
  const total = `${plural(report.members.length, "member")}, ${plural(report.places.length, "partition")}, ${grouped(lagOf(report))} behind`;
  return [
    `${pc.bold(report.group)}  ${report.state}`,
    rows.length === 0
      ? "nothing committed yet"
      : table(["STREAM", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], rows),
    ...members,
    pc.dim(total),
  ].join("\n");
}
