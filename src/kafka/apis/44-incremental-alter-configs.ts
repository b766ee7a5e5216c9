/**
 * IncrementalAlterConfigs: sets settings of a stream that no configuration states, puts them back to their
 * defaults, or edits a list (KIP-339). A broker's settings are in the gateway's configuration: INVALID_REQUEST.
 */
import { int8, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { alterSettings } from "../stream-config.ts";
import { ALTERED, alteringRequest, alteringStreams } from "./altering.ts";

export const incrementalAlterConfigs = api({
  key: 44,
  name: "IncrementalAlterConfigs",
  limits: "streams only",
  versions: { min: 0, max: 1, flexible: 1 },
  request: alteringRequest({ name: string(), configOperation: int8(), value: string({ nullable: "0+" }) }),
  response: ALTERED,
  handle: async ({ resources, validateOnly }, { log }) => ({
    responses: await alteringStreams(log, resources, validateOnly, ({ settings }, { configs }) =>
      alterSettings(settings, configs),
    ),
  }),
});
