/** Heartbeat 0–4. */
import { int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const heartbeat = api({
  key: 12,
  name: "Heartbeat",
  versions: { min: 0, max: 4, flexible: 4 },
  request: {
    groupId: string(),
    generationId: int32(),
    memberId: string(),
    groupInstanceId: string({ versions: "3+", nullable: "3+", default: null }),
  },
  response: { throttleTimeMs: int32({ versions: "1+" }), errorCode: int16() },
  handle: (request, { groups }) => ({ errorCode: ErrorCode[groups.heartbeat(request.groupId, request)] }),
});
