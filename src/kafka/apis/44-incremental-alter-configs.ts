/**
 * IncrementalAlterConfigs: sets settings of a stream that no configuration states. Only SET is here: the log
 * keeps resolved settings, so there is no default to go back to (DELETE) and no list to edit (APPEND,
 * SUBTRACT). A broker's settings are in the gateway's configuration: INVALID_REQUEST.
 */
import { array, bool, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { parseSettings } from "../stream-config.ts";
import { changeableStream, ResourceType } from "./common.ts";

const OPERATION_SET = 0;

export const incrementalAlterConfigs = api({
  key: 44,
  name: "IncrementalAlterConfigs",
  versions: { min: 0, max: 1, flexible: 1 },
  request: {
    resources: array({
      resourceType: int8(),
      resourceName: string(),
      configs: array({ name: string(), configOperation: int8(), value: string({ nullable: "0+" }) }),
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
  async handle({ resources, validateOnly }, { log }) {
    const responses = resources.map(async ({ resourceType, resourceName, configs }) => {
      const outcome = await outcomeOf(async () => {
        if (resourceType !== ResourceType.TOPIC) {
          throw new Refusal(ErrorCode.INVALID_REQUEST, "only a stream's settings can be altered by clients");
        }
        changeableStream(log, resourceName);
        if (configs.some(({ configOperation }) => configOperation !== OPERATION_SET)) {
          throw new Refusal(ErrorCode.INVALID_CONFIG, "settings can only be set here, not reset or edited");
        }
        const settings = parseSettings(configs);
        if (!validateOnly) await log.alterStream(resourceName, { settings });
        return {};
      });
      return { resourceType, resourceName, ...outcome };
    });
    return { responses: await Promise.all(responses) };
  },
});
