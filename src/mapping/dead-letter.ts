/**
 * A dead letter: the payload as it came, and in headers all that is needed to say why it is here and to send it
 * through the rules again. Its key is the MQTT topic and its timestamp the time of arrival.
 */
import type { PublishPacket, RecordHeader } from "../record.ts";
import { encodeHeaders } from "../wire/record-batch.ts";
import type { MappingError } from "./outcome.ts";
import { ERROR_HEADER, TOPIC_HEADER } from "./record-builder.ts";

export const DEAD_LETTER_HEADERS = {
  topic: TOPIC_HEADER,
  error: ERROR_HEADER,
  rule: "sluice.mapping.rule",
  /** `key`, `headers.site`, `also[0].value` … */
  field: "sluice.mapping.field",
  /** In the field's text, from 0; absent where no place is to blame. */
  position: "sluice.mapping.position",
  clientId: "mqtt.clientId",
  /** Absent when the client gave none. */
  username: "mqtt.username",
  qos: "mqtt.qos",
  /** `true` or `false` */
  retain: "mqtt.retain",
} as const;

export function deadLetterHeaders(packet: PublishPacket, error: MappingError): Buffer {
  const names = DEAD_LETTER_HEADERS;
  const headers: readonly (readonly [string, string | number | boolean | undefined])[] = [
    [names.topic, packet.mqttTopic],
    [names.error, error.message],
    [names.rule, error.rule],
    [names.field, error.field],
    [names.position, error.position],
    [names.clientId, packet.clientId],
    [names.username, packet.username],
    [names.qos, packet.qos],
    [names.retain, packet.retain],
  ];
  return encodeHeaders(
    headers.flatMap(([key, value]): RecordHeader[] =>
      value === undefined ? [] : [{ key, value: Buffer.from(String(value)) }],
    ),
  );
}

/** The headers of a record that no rule shaped. */
export function unmatchedHeaders(mqttTopic: string): Buffer {
  return encodeHeaders([{ key: TOPIC_HEADER, value: Buffer.from(mqttTopic) }]);
}
