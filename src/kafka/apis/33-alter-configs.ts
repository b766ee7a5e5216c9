/**
 * AlterConfigs: a stream's settings as a whole: what is not named goes back to its default, as in Kafka (which
 * has deprecated it for that reason; IncrementalAlterConfigs is what tools use).
 */

import { DEFAULT_SETTINGS } from "../../log/stream-state.ts";
import { array, bool, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { parseSettings } from "../stream-config.ts";
import { alteringStreams } from "./common.ts";

export const alterConfigs = api({
  key: 33,
  name: "AlterConfigs",
  limits: "streams only",
  versions: { min: 0, max: 2, flexible: 2 },
  request: {
    resources: array({
      resourceType: int8(),
      resourceName: string(),
      configs: array({ name: string(), value: string({ nullable: "0+" }) }),
    }),
    validateOnly: bool(),
  },
  response: {
    throttleTimeMs: int32(),
    responses: array({
      errorCode: int16(),
      errorMessage: string({ nullable: "0+", default: null }),
      resourceType: int8(),
      resourceName: string(),
    }),
  },
  handle: async ({ resources, validateOnly }, { log }) => ({
    responses: await alteringStreams(log, resources, validateOnly, (_, { configs }) => ({
      ...DEFAULT_SETTINGS,
      ...parseSettings(configs),
    })),
  }),
});
