/** Where nobody may publish or subscribe, and what subscriptions grant. */
import { MappingSyntaxError } from "../mapping/syntax-error.ts";
import { TopicFilter } from "../mapping/topic-filter.ts";

export const MAX_TOPIC_LEVELS = 100;
const SYS = "$SYS";

/** By topic filter. */
export type Subscriptions = Readonly<Record<string, { readonly qos: 0 | 1 | 2 }>>;

/** Why nobody may publish there, in words that follow "a publish to", or undefined. */
export const publishProblem = (mqttTopic: string): string | undefined =>
  topicProblem(mqttTopic) ?? (isOfBroker(mqttTopic) ? `${SYS}, which is the broker's own` : undefined);

/** Section 4.7.2. What a client sends there all the same is acknowledged and dropped [MQTT-3.3.5-2]. */
export const isOfBroker = (mqttTopic: string): boolean => mqttTopic.startsWith(SYS);

/** Why it is no MQTT topic of a PUBLISH, as above, or undefined. */
export function topicProblem(mqttTopic: string): string | undefined {
  if (mqttTopic === "") return "an empty MQTT topic"; // [MQTT-4.7.3-1]
  if (/[+#\0]/.test(mqttTopic)) return "an MQTT topic with a wildcard or U+0000"; // [MQTT-3.3.2-2], [MQTT-4.7.3-2]
  return undefined;
}

/** Why nobody may subscribe to it, or undefined. */
export function filterProblem(filter: string): string | undefined {
  try {
    const { names } = TopicFilter.parse(filter);
    return names.length === 0 ? undefined : "a subscription to a wildcard with a name";
  } catch (error) {
    if (error instanceof MappingSyntaxError) return `a subscription: ${error.message}`;
    throw error;
  }
}

/** The highest QoS of the subscriptions that match. */
export function grantedQos(subscriptions: Subscriptions, mqttTopic: string): number {
  let granted = 0;
  for (const [filter, { qos }] of Object.entries(subscriptions)) {
    if (qos > granted && TopicFilter.parse(filter).matches(mqttTopic)) granted = qos;
  }
  return granted;
}
