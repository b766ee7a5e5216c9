/** DeleteGroups 0–2: only groups without members; answered when the deletion is on disk. */
import { array, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

export const deleteGroups = api({
  key: 42,
  name: "DeleteGroups",
  versions: { min: 0, max: 2, flexible: 2 },
  request: { groupsNames: array(string()) },
  response: { throttleTimeMs: int32(), results: array({ groupId: string(), errorCode: int16() }) },
  async handle({ groupsNames }, { groups }) {
    const deletions = groupsNames.map(async (groupId) => ({
      groupId,
      errorCode: ErrorCode[await groups.delete(groupId)],
    }));
    return { results: await Promise.all(deletions) };
  },
});
