/** What AlterConfigs and IncrementalAlterConfigs have in common. */
import type { Log, Stream, StreamSettings } from "../../log/log.ts";
import { array, bool, type Fields, int8, int16, int32, string } from "../../wire/schema.ts";
import { ErrorCode, outcomeOf, Refusal } from "../error-code.ts";
import { changeableStream, ResourceType } from "./common.ts";

/** `entry`: what is said of one setting. */
export const alteringRequest = <E extends Fields>(entry: E) => ({
  resources: array({ resourceType: int8(), resourceName: string(), configs: array(entry) }),
  validateOnly: bool(),
});

export const ALTERED = {
  throttleTimeMs: int32(),
  responses: array({
    errorCode: int16(),
    errorMessage: string({ nullable: "0+", default: null }),
    resourceType: int8(),
    resourceName: string(),
  }),
};

/** `change` says what a stream's settings become. */
export function alteringStreams<R extends { readonly resourceType: number; readonly resourceName: string }>(
  log: Log,
  resources: readonly R[],
  validateOnly: boolean,
  change: (stream: Stream, resource: R) => Partial<StreamSettings>,
) {
  const one = async (resource: R) => {
    const { resourceType, resourceName } = resource;
    const outcome = await outcomeOf(async () => {
      if (resourceType !== ResourceType.TOPIC) {
        throw new Refusal(ErrorCode.INVALID_REQUEST, "only a stream's settings can be altered by clients");
      }
      const settings = change(changeableStream(log, resourceName), resource);
      if (!validateOnly) await log.alterStream(resourceName, { settings });
      return {};
    });
    return { resourceType, resourceName, ...outcome };
  };
  return Promise.all(resources.map(one));
}
