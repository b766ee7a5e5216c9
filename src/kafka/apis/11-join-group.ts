/** JoinGroup 0–9: waits for the end of the join phase. MEMBER_ID_REQUIRED from 4 on, `skipAssignment` from 9 on. */
import { array, bool, bytes, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const joinGroup = api({
  key: 11,
  name: "JoinGroup",
  versions: { min: 0, max: 9, flexible: 6 },
  request: {
    groupId: string(),
    sessionTimeoutMs: int32(),
    rebalanceTimeoutMs: int32({ versions: "1+", default: -1 }),
    memberId: string(),
    groupInstanceId: string({ versions: "5+", nullable: "5+", default: null }),
    protocolType: string(),
    protocols: array({ name: string(), metadata: bytes() }),
    reason: string({ versions: "8+", nullable: "8+", default: null }),
  },
  response: {
    throttleTimeMs: int32({ versions: "2+" }),
    errorCode: int16(),
    generationId: int32({ default: -1 }),
    protocolType: string({ versions: "7+", nullable: "7+", default: null }),
    protocolName: string({ nullable: "7+" }),
    leader: string(),
    skipAssignment: bool({ versions: "9+" }),
    memberId: string(),
    members: array({
      memberId: string(),
      groupInstanceId: string({ versions: "5+", nullable: "5+", default: null }),
      metadata: bytes(),
    }),
  },
  async handle(request, { groups, clientHost, signal }, { version, clientId }) {
    const { error, ...result } = await groups.join(
      {
        ...request,
        clientId: clientId ?? "",
        clientHost,
        knowsMemberIdRequired: version >= 4,
        knowsSkipAssignment: version >= 9,
      },
      signal,
    );
    return { errorCode: ErrorCode[error], ...result };
  },
});
