/**
 * AlterConfigs: a stream's settings as a whole: what is not named goes back to its default, as in Kafka (which
 * has deprecated it for that reason; IncrementalAlterConfigs is what tools use).
 */

import { DEFAULT_SETTINGS } from "../../log/stream-state.ts";
import { string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { parseSettings } from "../stream-config.ts";
import { ALTERED, alteringRequest, alteringStreams } from "./altering.ts";

export const alterConfigs = api({
  key: 33,
  name: "AlterConfigs",
  limits: "streams only",
  versions: { min: 0, max: 2, flexible: 2 },
  request: alteringRequest({ name: string(), value: string({ nullable: "0+" }) }),
  response: ALTERED,
  handle: async ({ resources, validateOnly }, { log }) => ({
    responses: await alteringStreams(log, resources, validateOnly, (_, { configs }) => ({
      ...DEFAULT_SETTINGS,
      ...parseSettings(configs),
    })),
  }),
});
