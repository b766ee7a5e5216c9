/**
 * ListConfigResources: what DescribeConfigs can be asked about: streams and the broker. Version 0 asks for
 * client metrics only (KIP-714), of which there are none.
 */
import { array, int8, int16, int32, string } from "../../wire/schema.ts";
import { api } from "../api.ts";
import { ErrorCode } from "../error-code.ts";
import { NODE_ID, ResourceType } from "./common.ts";

const CLIENT_METRICS = 16;
const BROKER_LOGGER = 8;
const GROUP = 32;
const KNOWN: readonly number[] = [...Object.values(ResourceType), BROKER_LOGGER, CLIENT_METRICS, GROUP];

export const listConfigResources = api({
  key: 74,
  name: "ListConfigResources",
  limits: "streams and the broker; groups, loggers and client metrics have no settings here",
  versions: { min: 0, max: 1, flexible: 0 },
  request: { resourceTypes: array(int8(), { versions: "1+" }) },
  response: {
    throttleTimeMs: int32(),
    errorCode: int16(),
    configResources: array({
      resourceName: string(),
      resourceType: int8({ versions: "1+", default: CLIENT_METRICS }),
    }),
  },
  handle({ resourceTypes }, { log }, { version }) {
    if (version === 0) return {};
    if (resourceTypes.some((type) => !KNOWN.includes(type))) {
      return { errorCode: ErrorCode.UNSUPPORTED_VERSION };
    }
    // None named asks for all.
    const isWanted = (type: number) => resourceTypes.length === 0 || resourceTypes.includes(type);
    const { TOPIC, BROKER } = ResourceType;
    const names = log.streams.map(({ name }) => ({ resourceType: TOPIC as number, resourceName: name }));
    const all = [...names, { resourceType: BROKER as number, resourceName: String(NODE_ID) }];
    return { configResources: all.filter(({ resourceType }) => isWanted(resourceType)) };
  },
});
