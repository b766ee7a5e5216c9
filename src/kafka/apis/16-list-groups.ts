/** ListGroups 0–5, filtered by state (4+) and type (5+: all groups here are "classic"). */
import { array, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";

const CLASSIC = "classic";

export const listGroups = api({
  key: 16,
  name: "ListGroups",
  limits: "all groups are classic ones",
  versions: { min: 0, max: 5, flexible: 3 },
  request: {
    statesFilter: array(string(), { versions: "4+" }),
    typesFilter: array(string(), { versions: "5+" }),
  },
  response: {
    throttleTimeMs: int32({ versions: "1+" }),
    errorCode: int16(),
    groups: array({
      groupId: string(),
      protocolType: string(),
      groupState: string({ versions: "4+" }),
      groupType: string({ versions: "5+" }),
    }),
  },
  handle({ statesFilter, typesFilter }, { groups }) {
    // Kafka takes the names in any case.
    const passes = (filter: readonly string[], name: string) =>
      filter.length === 0 || filter.some((each) => each.toLowerCase() === name.toLowerCase());
    const listed = passes(typesFilter, CLASSIC) ? groups.list() : [];
    return {
      errorCode: ErrorCode[groups.availability],
      groups: listed
        .filter(({ state }) => passes(statesFilter, state))
        .map(({ groupId, protocolType, state }) => ({
          groupId,
          protocolType,
          groupState: state,
          groupType: CLASSIC,
        })),
    };
  },
});
