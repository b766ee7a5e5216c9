/**
 * IncrementalAlterConfigs: sets settings of a stream that no configuration states. Only SET is here: the log
 * keeps resolved settings, so there is no default to go back to (DELETE) and no list to edit (APPEND,
 * SUBTRACT). A broker's settings are in the gateway's configuration: INVALID_REQUEST.
 */
import { array, bool, int8, int16, int32, string } from "../../wire/schema.ts";
import { api, type RequestContext } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { parseSettings, type SettingEntry } from "../stream-config.ts";
import { lockOf, ResourceType, refusal, refusalOf } from "./common.ts";

const OPERATION_SET = 0;

interface Wish {
  readonly resourceType: number;
  readonly resourceName: string;
  readonly configs: readonly (SettingEntry & { readonly configOperation: number })[];
}

async function alter(
  { resourceType, resourceName, configs }: Wish,
  validateOnly: boolean,
  { log }: RequestContext,
) {
  if (resourceType !== ResourceType.TOPIC) {
    return refusal(ErrorCode.INVALID_REQUEST, "only a stream's settings can be altered by clients");
  }
  const stream = log.stream(resourceName);
  if (stream === undefined) {
    return refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `there is no stream "${resourceName}"`);
  }
  const locked = lockOf(stream);
  if (locked !== undefined) return locked;
  if (configs.some(({ configOperation }) => configOperation !== OPERATION_SET)) {
    return refusal(ErrorCode.INVALID_CONFIG, "settings can only be set here, not reset or edited");
  }
  const settings = parseSettings(configs);
  if (typeof settings === "string") return refusal(ErrorCode.INVALID_CONFIG, settings);
  if (validateOnly) return { errorCode: ErrorCode.NONE };
  try {
    await log.alterStream(resourceName, { settings });
    return { errorCode: ErrorCode.NONE };
  } catch (error) {
    return refusalOf(error);
  }
}

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
  async handle({ resources, validateOnly }, context) {
    return {
      responses: await Promise.all(
        resources.map(async (wish) => ({
          resourceType: wish.resourceType,
          resourceName: wish.resourceName,
          ...(await alter(wish, validateOnly, context)),
        })),
      ),
    };
  },
});
