/** SyncGroup 0–5: the leader brings the assignments, everybody waits for theirs. */
import { array, bytes, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const syncGroup = api({
  key: 14,
  name: "SyncGroup",
  versions: { min: 0, max: 5, flexible: 4 },
  request: {
    groupId: string(),
    generationId: int32(),
    memberId: string(),
    groupInstanceId: string({ versions: "3+", nullable: "3+", default: null }),
    protocolType: string({ versions: "5+", nullable: "5+", default: null }),
    protocolName: string({ versions: "5+", nullable: "5+", default: null }),
    assignments: array({ memberId: string(), assignment: bytes() }),
  },
  response: {
    throttleTimeMs: int32({ versions: "1+" }),
    errorCode: int16(),
    protocolType: string({ versions: "5+", nullable: "5+", default: null }),
    protocolName: string({ versions: "5+", nullable: "5+", default: null }),
    assignment: bytes(),
  },
  async handle(request, { groups, signal }) {
    const { error, ...result } = await groups.sync(request, signal);
    return { errorCode: ErrorCode[error], ...result };
  },
});
