/** The code under test: the sources', or a copy of them with a bug put in. */
import { GroupCoordinator } from "../../src/groups/coordinator.ts";
import { StreamStore } from "../../src/log/stream-store.ts";
import { Mapper } from "../../src/mapping/mapper.ts";
import { MqttBroker } from "../../src/mqtt/broker.ts";
import { Ingest } from "../../src/mqtt/ingest.ts";

export interface Program {
  readonly StreamStore: typeof StreamStore;
  readonly GroupCoordinator: typeof GroupCoordinator;
  readonly Mapper: typeof Mapper;
  readonly Ingest: typeof Ingest;
  readonly MqttBroker: typeof MqttBroker;
}

export const PROGRAM: Program = { StreamStore, GroupCoordinator, Mapper, Ingest, MqttBroker };

/** Where its parts are, below src. */
export const PARTS: Record<keyof Program, string> = {
  StreamStore: "log/stream-store.ts",
  GroupCoordinator: "groups/coordinator.ts",
  Mapper: "mapping/mapper.ts",
  Ingest: "mqtt/ingest.ts",
  MqttBroker: "mqtt/broker.ts",
};
