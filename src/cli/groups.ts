/** `sluice groups [group]`: who reads together, and how far behind. */
import type { Command } from "commander";
import { type Admin, AssignerProtocol } from "kafkajs";
import pc from "picocolors";
import { didYouMean } from "../config/problems.ts";
import { SluiceError } from "../errors.ts";
import { BROKER_OPTION, type BrokerOptions, brokerOf, CONFIG_OPTION, withAdmin } from "./broker.ts";
import { grouped, plural, table } from "./table.ts";

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
  program
    .command("groups")
    .description("List the consumer groups, or describe one: its members, what each reads, and the lag.")
    .argument("[group]", "a group to describe")
    .option(...BROKER_OPTION)
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON document")
    .action(run);
}

async function run(group: string | undefined, options: Options): Promise<void> {
  const broker = await brokerOf(options);
  const reports = await withAdmin(broker, async (admin) => {
    const names = (await admin.listGroups()).groups.map(({ groupId }) => groupId).sort();
    if (group !== undefined && !names.includes(group)) {
      throw new SluiceError(
        "UNKNOWN_GROUP",
        `${broker} has no consumer group "${group}"${didYouMean(group, names)}`,
        {
          mend: "sluice groups  lists them",
        },
      );
    }
    return report(admin, group === undefined ? names : [group]);
  });
  if (options.json) console.log(JSON.stringify(group === undefined ? reports : reports[0], null, 2));
  else console.log(group === undefined ? listText(reports, broker) : describeText(reports[0] as GroupReport));
}

async function report(admin: Admin, names: readonly string[]): Promise<GroupReport[]> {
  if (names.length === 0) return [];
  const { groups } = await admin.describeGroups([...names]);
  const ends = new Map<string, Promise<ReadonlyMap<number, number>>>();
  const reports: GroupReport[] = [];
  for (const { groupId, state, protocol, members } of groups) {
    const readers = new Map<string, string>();
    for (const { clientId, memberAssignment } of members) {
      for (const place of assignedTo(memberAssignment)) readers.set(place, clientId);
    }
    const places: PlaceReport[] = [];
    for (const { topic: stream, partitions } of await admin.fetchOffsets({ groupId })) {
      let known = ends.get(stream);
      if (known === undefined) {
        known = endsOf(admin, stream);
        ends.set(stream, known);
      }
      const logEnds = await known;
      for (const { partition, offset } of partitions) {
        const committedOffset = Number(offset);
        const logEndOffset = logEnds.get(partition);
        // -1: nothing committed. No end: the stream was deleted.
        if (committedOffset < 0 || logEndOffset === undefined) continue;
        const lag = Math.max(0, logEndOffset - committedOffset);
        const member = readers.get(`${stream}-${partition}`) ?? null;
        places.push({ stream, partition, committedOffset, logEndOffset, lag, member });
      }
    }
    places.sort((a, b) => (a.stream === b.stream ? a.partition - b.partition : a.stream < b.stream ? -1 : 1));
    reports.push({
      group: groupId,
      state,
      protocol,
      members: members.map(({ clientId, clientHost, memberId }) => ({
        clientId,
        host: clientHost,
        memberId,
      })),
      places,
    });
  }
  return reports;
}

/** `stream-partition` of each partition in a member's assignment; none for one that is not a consumer's. */
function assignedTo(assignment: Buffer): string[] {
  if (assignment.length === 0) return [];
  try {
    const streams = AssignerProtocol.MemberAssignment.decode(assignment)?.assignment ?? {};
    return Object.entries(streams).flatMap(([stream, partitions]) =>
      partitions.map((index) => `${stream}-${index}`),
    );
  } catch {
    return []; // Kafka Connect and others put their own bytes there
  }
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

function listText(reports: readonly GroupReport[], broker: string): string {
  if (reports.length === 0) return `no consumer groups at ${broker}`;
  const rows = reports.map((report) => [
    report.group,
    report.state,
    report.members.length,
    [...new Set(report.places.map(({ stream }) => stream))].join(", ") || "–",
    lagOf(report),
  ]);
  const lag = reports.reduce((sum, report) => sum + lagOf(report), 0);
  const total = `${plural(reports.length, "group")}, ${plural(lag, "record")} behind, at ${broker}`;
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
  const places =
    rows.length === 0
      ? "nothing committed yet"
      : table(["STREAM", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"], rows);
  const members = report.members.map(({ clientId, host }) => `  ${clientId}  ${host.replace(/^\//, "")}`);
  const total = `${plural(report.members.length, "member")}, ${plural(report.places.length, "partition")}, ${grouped(lagOf(report))} behind`;
  return [`${pc.bold(report.group)}  ${report.state}`, places, ...members, pc.dim(total)].join("\n");
}
