/** A group as others see it: on a screen, and on disk. */
import type { Group } from "./group.ts";
import { NO_BYTES } from "./member.ts";
import type { GroupValue } from "./records.ts";
import type { GroupDescription, GroupListing } from "./types.ts";

export function listingOf({ id, state, members }: Group): GroupListing {
  return { groupId: id, state, protocolType: members.protocolType, members: members.size };
}

export function descriptionOf(group: Group): GroupDescription {
  const stable = group.state === "Stable";
  return {
    groupId: group.id,
    state: group.state,
    generationId: group.generationId,
    protocolType: group.members.protocolType,
    protocolName: stable ? (group.protocolName ?? "") : "",
    leader: group.leaderId,
    members: Array.from(group.members.values(), (member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      clientId: member.terms.clientId,
      clientHost: member.terms.clientHost,
      metadata: stable ? member.metadataFor(group.protocolName) : NO_BYTES,
      assignment: stable ? member.assignment : NO_BYTES,
    })),
  };
}

/** As Kafka stores it: of the members' protocols only the chosen one. */
export function storedFormOf(group: Group, currentStateTimestamp: number): GroupValue {
  return {
    protocolType: group.members.protocolType,
    generation: group.generationId,
    protocol: group.protocolName,
    leader: group.leaderId,
    currentStateTimestamp,
    members: Array.from(group.members.values(), (member) => ({
      memberId: member.memberId,
      groupInstanceId: member.groupInstanceId,
      clientId: member.terms.clientId,
      clientHost: member.terms.clientHost,
      rebalanceTimeout: member.terms.rebalanceTimeoutMs,
      sessionTimeout: member.terms.sessionTimeoutMs,
      subscription: member.metadataFor(group.protocolName),
      assignment: member.assignment,
    })),
  };
}
