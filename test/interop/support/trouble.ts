/**
 * What others do to a gateway while sensors publish and subscribers read: clients that freeze, connect and say
 * nothing, or send as fast as they can; a reader that begins at the beginning; a disk that takes its time.
 * Bare sockets, so that the clients cost next to nothing and do exactly what is said.
 */
import { rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generate, type Packet } from "mqtt-packet";
import { fetch } from "../../../src/kafka/apis/01-fetch.ts";
import { Writer } from "../../../src/wire/buffer.ts";
import { encode } from "../../../src/wire/schema.ts";
import type { Gateway } from "./gateway.ts";

export interface Trouble {
  readonly name: string;
  /** Of everybody else, once it is over, what is meant to have stayed as it was. */
  readonly slowsOthers?: true;
  /** Resolves to what ends it. */
  begin(gateway: Gateway): Promise<() => Promise<void>>;
}

/** Sockets that are opened again whenever they are closed, until `end`. */
class Crowd {
  private readonly sockets = new Set<Socket>();
  private readonly port: number;
  private readonly behave: (socket: Socket, index: number) => void;
  private ended = false;

  constructor(port: number, behave: (socket: Socket, index: number) => void) {
    this.port = port;
    this.behave = behave;
  }

  /** Resolves when all are connected for the first time. */
  async open(count: number): Promise<() => Promise<void>> {
    for (let from = 0; from < count; from += 100) {
      const some = Array.from({ length: Math.min(100, count - from) }, (_, index) => from + index);
      await Promise.all(some.map((index) => new Promise<void>((resolve) => this.one(index, resolve))));
    }
    return async () => {
      this.ended = true;
      for (const socket of this.sockets) socket.destroy();
    };
  }

  private one(index: number, connected: () => void): void {
    if (this.ended) return;
    const socket = connect({ port: this.port, host: "127.0.0.1", noDelay: true }, () => {
      this.behave(socket, index);
      connected();
    });
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => {
      this.sockets.delete(socket);
      setTimeout(() => this.one(index, () => {}), 200).unref();
    });
  }
}

const send = (socket: Socket, packet: Packet): boolean => socket.write(generate(packet));
const hello = (socket: Socket, clientId: string, clean = true): void => {
  send(socket, { cmd: "connect", protocolId: "MQTT", protocolVersion: 4, clientId, clean, keepalive: 0 });
};

const mqttSubscribersThatFreeze: Trouble = {
  name: "MQTT subscribers that stop reading",
  begin: ({ mqttPort }) =>
    new Crowd(mqttPort, (socket, index) => {
      // One in two with a session that is kept, whose queue fills.
      hello(socket, `frozen-${index}`, index % 2 === 0);
      send(socket, { cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "#", qos: 1 }] });
      socket.pause();
    }).open(10),
};

/** One Fetch for all partitions of a stream from the beginning, as much as there is. */
export function greedyFetch(stream: string, partitions: number): Buffer {
  const writer = new Writer();
  writer.int16(fetch.key);
  writer.int16(4);
  writer.int32(1);
  writer.string(false, "greedy");
  const maxBytes = 64 << 20;
  encode(
    fetch.request,
    4,
    {
      ...{ maxWaitMs: 0, minBytes: 1, maxBytes, isolationLevel: 0 },
      topics: [
        {
          topic: stream,
          partitions: Array.from({ length: partitions }, (_, partition) => ({
            ...{ partition, fetchOffset: 0, partitionMaxBytes: maxBytes },
          })),
        },
      ],
    },
    writer,
  );
  const message = writer.toBuffer();
  const length = Buffer.alloc(4);
  length.writeInt32BE(message.length);
  return Buffer.concat([length, message]);
}

const kafkaConsumersThatFreeze: Trouble = {
  name: "Kafka consumers that stop reading in the middle of an answer",
  begin: ({ kafkaPort }) =>
    new Crowd(kafkaPort, (socket) => {
      const request = greedyFetch("telemetry", 4);
      socket.write(Buffer.concat([request, request]));
      socket.once("data", () => socket.pause());
    }).open(25),
};

const halfOpen: Trouble = {
  name: "1,000 connections that say half of something",
  begin: async ({ mqttPort, kafkaPort }) => {
    const packet = { cmd: "connect", protocolId: "MQTT", protocolVersion: 4, clientId: "half" } as const;
    const half = generate({ ...packet, clean: true, keepalive: 60 }).subarray(0, 9);
    const ends = [
      await new Crowd(mqttPort, (socket) => socket.write(half)).open(500),
      // The length of a frame of 8 MiB, and nothing of it.
      await new Crowd(kafkaPort, (socket) => socket.write(Buffer.from([0, 0x80, 0, 0]))).open(500),
    ];
    return async () => {
      for (const end of ends) await end();
    };
  },
};

const noConnect: Trouble = {
  name: "CONNECT that never comes, on 500 connections",
  begin: ({ mqttPort }) => new Crowd(mqttPort, () => {}).open(500),
};

/** Sends pieces as fast as the socket takes them. */
function pour(socket: Socket, piece: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on("drain", more);
  more();
}

/** Sends packets that need no answer to be gone on after, over and over; what comes is taken and not waited for. */
const flood = (what: string, packets: readonly Packet[]): Trouble => ({
  name: `one client that ${what} as fast as it can`,
  begin: ({ mqttPort }) =>
    new Crowd(mqttPort, (socket) => {
      hello(socket, "flood");
      socket.resume();
      pour(socket, Buffer.concat(packets.map((packet) => generate(packet))));
    }).open(1),
});

const publishes = (qos: 0 | 1, payloadBytes: number): Packet[] =>
  Array.from({ length: 100 }, (_, index) => {
    const packet = { cmd: "publish", topic: "flood", payload: Buffer.alloc(payloadBytes, "x"), qos } as const;
    return { ...packet, dup: false, retain: false, messageId: qos === 0 ? undefined : index + 1 } as Packet;
  });

const subscribes = Array.from({ length: 100 }, (_, index): Packet => {
  return { cmd: "subscribe", messageId: index + 1, subscriptions: [{ topic: `flood/${index}`, qos: 0 }] };
});

const kafkaFlood: Trouble = {
  name: "one Kafka client that asks as fast as it can",
  begin: ({ kafkaPort }) =>
    new Crowd(kafkaPort, (socket) => {
      socket.resume();
      // ApiVersions v0, correlation id 1, client id "x": a length of 11, and nothing behind the header.
      const request = Buffer.from([0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 1, 0, 1, "x".charCodeAt(0)]);
      pour(socket, Buffer.concat(Array.from({ length: 1_000 }, () => request)));
    }).open(1),
};

const readerFromTheBeginning: Trouble = {
  name: "a subscriber that reads a large log from the beginning, again and again",
  begin: ({ kafkaPort }) =>
    new Crowd(kafkaPort, (socket) => {
      const request = greedyFetch("telemetry", 4);
      let expected = 0;
      let got = 0;
      socket.on("data", (chunk: Buffer) => {
        if (expected === 0) expected = chunk.readInt32BE(0) + 4;
        got += chunk.length;
        if (got < expected) return;
        expected = 0;
        got = 0;
        socket.write(request);
      });
      socket.write(request);
    }).open(1),
};

/** Makes `slowDisk` possible in a gateway: pass as its `nodeArgs`. */
export const SLOW_DISK_ARGS = ["--import", fileURLToPath(new URL("./slow-disk.mjs", import.meta.url))];

export const slowDisk: Trouble = {
  name: "a disk whose every sync takes 300 ms",
  slowsOthers: true,
  begin: async ({ folder }) => {
    await writeFile(join(folder, "slow-disk"), "300");
    return () => rm(join(folder, "slow-disk"));
  },
};

export const TROUBLES: readonly Trouble[] = [
  mqttSubscribersThatFreeze,
  kafkaConsumersThatFreeze,
  halfOpen,
  noConnect,
  flood("publishes at QoS 0", publishes(0, 1_000)),
  flood("publishes at QoS 1", publishes(1, 1_000)),
  flood("publishes next to nothing", publishes(0, 1)),
  flood("subscribes", subscribes),
  kafkaFlood,
  readerFromTheBeginning,
];
