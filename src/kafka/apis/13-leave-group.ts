/** LeaveGroup 0–5: one member up to version 2, several from 3 on (KIP-345). */
import { array, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const leaveGroup = api({
  key: 13,
  name: "LeaveGroup",
  versions: { min: 0, max: 5, flexible: 4 },
  request: {
    groupId: string(),
    memberId: string({ versions: "0-2" }),
    members: array(
      {
        memberId: string(),
        groupInstanceId: string({ nullable: "3+", default: null }),
        reason: string({ versions: "5+", nullable: "5+", default: null }),
      },
      { versions: "3+" },
    ),
  },
  response: {
    throttleTimeMs: int32({ versions: "1+" }),
    errorCode: int16(),
    members: array(
      { memberId: string(), groupInstanceId: string({ nullable: "3+" }), errorCode: int16() },
      { versions: "3+" },
    ),
  },
  handle({ groupId, memberId, members }, { groups }, { version }) {
    if (version < 3) {
      const [error] = groups.leave(groupId, [{ memberId, groupInstanceId: null }]);
      return { errorCode: ErrorCode[error ?? "NONE"] };
    }
    const unavailable = groups.availability;
    if (unavailable !== "NONE") return { errorCode: ErrorCode[unavailable] };
    const errors = groups.leave(groupId, members);
    return {
      members: members.map((member, index) => ({
        memberId: member.memberId,
        groupInstanceId: member.groupInstanceId,
        errorCode: ErrorCode[errors[index] ?? "NONE"],
      })),
    };
  },
});
