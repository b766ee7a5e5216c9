/**
 * DescribeGroups 0–6. An unknown group is "Dead", from 6 on with an error too (KIP-1043). What is allowed is told of
 * a group without an error, as Kafka does: before 6 of an unknown one, too.
 */
import type { GroupCoordinator } from "../../groups/coordinator.ts";
import { array, bool, bytes, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { GROUP_OPERATIONS, OPERATIONS_NOT_ASKED } from "./common.ts";

export const describeGroups = api({
  key: 15,
  name: "DescribeGroups",
  versions: { min: 0, max: 6, flexible: 5 },
  request: { groups: array(string()), includeAuthorizedOperations: bool({ versions: "3+" }) },
  response: {
    throttleTimeMs: int32({ versions: "1+" }),
    groups: array({
      errorCode: int16(),
      errorMessage: string({ versions: "6+", nullable: "6+", default: null }),
      groupId: string(),
      groupState: string(),
      protocolType: string(),
      protocolData: string(),
      members: array({
        memberId: string(),
        groupInstanceId: string({ versions: "4+", nullable: "4+", default: null }),
        clientId: string(),
        clientHost: string(),
        memberMetadata: bytes(),
        memberAssignment: bytes(),
      }),
      authorizedOperations: int32({ versions: "3+", default: OPERATIONS_NOT_ASKED }),
    }),
  },
  handle: (request, { groups }, { version }) => ({
    groups: request.groups.map((groupId) => {
      const described = describe(groups, groupId, version);
      const isTold = request.includeAuthorizedOperations && described.errorCode === ErrorCode.NONE;
      return { ...described, authorizedOperations: isTold ? GROUP_OPERATIONS : OPERATIONS_NOT_ASKED };
    }),
  }),
});

function describe(groups: GroupCoordinator, groupId: string, version: number) {
  if (groups.availability !== "NONE") return { groupId, errorCode: ErrorCode[groups.availability] };
  const group = groups.describe(groupId);
  if (group === undefined) {
    const unknown = { groupId, groupState: "Dead", errorCode: ErrorCode.NONE };
    if (version < 6) return unknown;
    return {
      ...unknown,
      errorCode: ErrorCode.GROUP_ID_NOT_FOUND,
      errorMessage: `Group ${groupId} not found.`,
    };
  }
  // As in Kafka, what is agreed upon is shown only while it holds.
  const stable = group.state === "Stable";
  return {
    groupId,
    errorCode: ErrorCode.NONE,
    groupState: group.state,
    protocolType: group.protocolType,
    protocolData: (stable && group.protocolName) || "",
    members: group.members.map(({ metadata, assignment, clientHost, ...member }) => ({
      ...member,
      // Kafka shows Java's form of an address; tools that want the address take the slash off.
      clientHost: `/${clientHost}`,
      ...(stable ? { memberMetadata: metadata, memberAssignment: assignment } : {}),
    })),
  };
}
