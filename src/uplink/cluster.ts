/**
 * A Kafka cluster as one producer sees it: connections to its brokers, what it says of its topics, and who
 * coordinates. Names are looked up and certificates read anew for each connection. Nothing is retried here.
 */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { messageOf } from "../errors.ts";
import { metadata } from "../kafka/apis/03-metadata.ts";
import { findCoordinator } from "../kafka/apis/10-find-coordinator.ts";
import { apiVersions } from "../kafka/apis/18-api-versions.ts";
import { type Exchange, KafkaClient } from "../kafka/client.ts";
import { ErrorCode } from "../kafka/error-code.ts";
import type { Fields, Partially, Shape } from "../wire/schema.ts";
import { authenticate, type Sasl } from "./sasl.ts";
import { ConnectError, KafkaError, NamedError } from "./words.ts";

export interface TlsOptions {
  /** Files in PEM. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly passphrase?: string | undefined;
  /** The name that the certificate must have, where it is not the broker's. */
  readonly serverName?: string | undefined;
}

export interface ClusterOptions {
  readonly clientId: string;
  /** `host:port`, tried in an order of chance. */
  readonly brokers: readonly { readonly host: string; readonly port: number }[];
  readonly tls?: TlsOptions | undefined;
  readonly sasl?: Sasl | undefined;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
}

export interface RemoteTopic {
  readonly errorCode: number;
  /** By partition; -1 while it has no leader. */
  readonly leaders: readonly number[];
  /** What the user may do, by bits of `AclOperation`; -2147483648 where the cluster does not say. */
  readonly operations: number;
}

/** Of one request, from the oldest to the newest that will do. */
export type Versions = readonly [min: number, max: number];

/** Of the coordinator's two kinds (FindCoordinator's `key_type`). */
export const GROUP = 0;
export const TRANSACTION = 1;

interface Broker {
  readonly address: string;
  readonly client: KafkaClient;
  readonly versions: ReadonlyMap<number, Versions>;
  /** Monotonic; when the SASL session must have been replaced. */
  readonly expiresAt: number;
}

export class Cluster {
  readonly options: ClusterOptions;
  clusterId: string | null = null;
  controllerId = -1;
  private readonly addresses = new Map<number, { host: string; port: number }>();
  private readonly brokers = new Map<number, Promise<Broker>>();
  private readonly coordinators = new Map<string, number>();
  private readonly topics = new Map<string, RemoteTopic>();
  private bootstrapped: Promise<Broker> | undefined;
  /** Which of `options.brokers` told us the others' addresses. */
  private toldBy = "";
  private readonly clients = new Set<KafkaClient>();
  private closed = false;

  constructor(options: ClusterOptions) {
    this.options = options;
  }

  /** Ends every connection at once; what waits on them is rejected. */
  close(): void {
    this.closed = true;
    for (const client of this.clients) client.close();
    this.clients.clear();
    this.brokers.clear();
    this.bootstrapped = undefined;
  }

  get brokerIds(): readonly number[] {
    return [...this.addresses.keys()];
  }

  topic(name: string): RemoteTopic | undefined {
    return this.topics.get(name);
  }

  leaderOf(topic: string, partition: number): number {
    return this.topics.get(topic)?.leaders[partition] ?? -1;
  }

  /** Asks for topics anew; what is known of the others stays. */
  async refresh(names: readonly string[]): Promise<void> {
    const answer = await this.askOf(await this.anyBroker(), metadata, [4, 12], {
      topics: names.map((name) => ({ name })),
      allowAutoTopicCreation: false,
      includeTopicAuthorizedOperations: true,
    });
    this.clusterId = answer.clusterId;
    this.controllerId = answer.controllerId;
    const known = new Map(this.addresses);
    this.addresses.clear();
    for (const { nodeId, host, port } of answer.brokers) {
      this.addresses.set(nodeId, { host, port });
      const before = known.get(nodeId);
      if (before !== undefined && (before.host !== host || before.port !== port)) this.drop(nodeId);
    }
    for (const { name, errorCode, partitions, topicAuthorizedOperations: operations } of answer.topics) {
      if (name === null) continue;
      const sorted = partitions.toSorted((a, b) => a.partitionIndex - b.partitionIndex);
      this.topics.set(name, { errorCode, leaders: sorted.map(({ leaderId }) => leaderId), operations });
    }
  }

  /** The node that coordinates; remembered until `forgetCoordinator`. */
  async coordinator(kind: number, key: string): Promise<number> {
    const place = `${kind}:${key}`;
    const known = this.coordinators.get(place);
    if (known !== undefined) return known;
    const answer = await this.askOf(await this.anyBroker(), findCoordinator, [2, 2], { key, keyType: kind });
    if (answer.errorCode !== 0) {
      throw new KafkaError(answer.errorCode, "FindCoordinator", answer.errorMessage);
    }
    const { nodeId, host, port } = answer;
    if (!this.addresses.has(nodeId)) this.addresses.set(nodeId, { host, port });
    this.coordinators.set(place, nodeId);
    return nodeId;
  }

  /** Connects; resolves with the address that the cluster tells of it. */
  async reach(nodeId: number): Promise<string> {
    return (await this.broker(nodeId)).address;
  }

  forgetCoordinators(): void {
    this.coordinators.clear();
  }

  /** In the highest of our versions that the broker takes. Rejects with the sentence of a broker too old. */
  async ask<Q extends Fields, R extends Fields>(
    nodeId: number,
    exchange: Exchange<Q, R>,
    ours: Versions,
    body: Partially<Shape<Q>>,
  ): Promise<Shape<R>> {
    return this.askOf(await this.broker(nodeId), exchange, ours, body);
  }

  private async askOf<Q extends Fields, R extends Fields>(
    { client, address, versions }: Broker,
    exchange: Exchange<Q, R>,
    ours: Versions,
    body: Partially<Shape<Q>>,
  ): Promise<Shape<R>> {
    const version = highestOf(exchange, ours, versions.get(exchange.key));
    try {
      return await client.ask(exchange, version, body, this.options.requestTimeoutMs);
    } catch (error) {
      throw new ConnectError(address, error, undefined);
    }
  }

  /** The one that bootstrapped, or any other that is connected. */
  private async anyBroker(): Promise<Broker> {
    for (const known of this.brokers.values()) {
      const broker = await known.catch(() => undefined);
      if (broker !== undefined && isUsable(broker)) return broker;
    }
    const first = await this.bootstrapped?.catch(() => undefined);
    if (first !== undefined && isUsable(first)) return first;
    this.bootstrapped = this.bootstrap();
    return this.bootstrapped;
  }

  private async bootstrap(): Promise<Broker> {
    const order = this.options.brokers.map((address) => ({ address, at: Math.random() }));
    // What the cluster itself has told, where those that were configured are away.
    const told = Array.from(this.addresses.values(), (address) => ({ address, at: 1 }));
    let failure: unknown;
    for (const { address } of [...order, ...told].sort((a, b) => a.at - b.at)) {
      try {
        const broker = await this.open(address.host, address.port, undefined);
        this.toldBy = `${address.host}:${address.port}`;
        return broker;
      } catch (error) {
        failure ??= error;
      }
    }
    throw failure;
  }

  private async broker(nodeId: number): Promise<Broker> {
    const known = this.brokers.get(nodeId);
    const broker = await known?.catch(() => undefined);
    if (broker !== undefined && isUsable(broker)) return broker;
    const current = this.brokers.get(nodeId);
    // Those that come at once share a connection.
    if (current !== undefined && current !== known) return current;
    // What waits on it is given the time that the session still has.
    if (broker?.client.connected) {
      setTimeout(() => broker.client.close(), this.options.requestTimeoutMs).unref();
    }
    this.brokers.delete(nodeId);
    const address = this.addresses.get(nodeId);
    if (address === undefined) throw new KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, `broker ${nodeId}`);
    const opening = this.open(address.host, address.port, { nodeId, by: this.toldBy });
    this.brokers.set(nodeId, opening);
    opening.catch(() => {
      if (this.brokers.get(nodeId) === opening) this.brokers.delete(nodeId);
    });
    return opening;
  }

  private drop(nodeId: number): void {
    const broker = this.brokers.get(nodeId);
    this.brokers.delete(nodeId);
    void broker?.then(
      ({ client }) => client.close(),
      () => {},
    );
  }

  private async open(
    host: string,
    port: number,
    advertised: { nodeId: number; by: string } | undefined,
  ): Promise<Broker> {
    const { clientId, connectTimeoutMs, requestTimeoutMs, sasl } = this.options;
    const began = performance.now();
    try {
      const client = new KafkaClient(clientId, {
        tls: await this.tls(host),
        connectTimeoutMs,
        replyTimeoutMs: requestTimeoutMs,
      });
      for (const old of this.clients) if (old.ended !== undefined) this.clients.delete(old);
      this.clients.add(client);
      try {
        if (this.closed) throw new NamedError("CLOSED", "the uplink has been closed");
        await client.connect(host, port);
        const { apiKeys } = await client.ask(apiVersions, 0, {}, connectTimeoutMs);
        const lifetimeMs = sasl === undefined ? 0 : await authenticate(client, sasl);
        return {
          address: `${host}:${port}`,
          client,
          versions: new Map(
            apiKeys.map(({ apiKey, minVersion, maxVersion }) => [apiKey, [minVersion, maxVersion]]),
          ),
          expiresAt: lifetimeMs > 0 ? began + lifetimeMs * 0.8 : Number.POSITIVE_INFINITY,
        };
      } catch (error) {
        client.close();
        this.clients.delete(client);
        throw error;
      }
    } catch (error) {
      throw new ConnectError(`${host}:${port}`, error, advertised);
    }
  }

  private async tls(host: string): Promise<ConnectionOptions | undefined> {
    const { tls } = this.options;
    if (tls === undefined) return undefined;
    const file = async (name: string, path: string | undefined): Promise<Buffer | undefined> => {
      if (path === undefined) return undefined;
      try {
        return await readFile(path);
      } catch (error) {
        throw new NamedError("TLS_FILE", `tls.${name} cannot be read: ${messageOf(error)}`);
      }
    };
    const name = tls.serverName ?? host;
    return {
      ca: await file("ca", tls.ca),
      cert: await file("cert", tls.cert),
      key: await file("key", tls.key),
      passphrase: tls.passphrase,
      // An address is no name for SNI (RFC 6066, 3); the certificate is checked against it all the same.
      ...(isIP(name) === 0 ? { servername: name } : {}),
    };
  }
}

function isUsable({ client, expiresAt }: Broker): boolean {
  return client.connected && expiresAt > performance.now();
}

function highestOf({ name }: Exchange, [min, max]: Versions, theirs: Versions | undefined): number {
  const version = Math.min(max, theirs?.[1] ?? -1);
  if (theirs !== undefined && version >= Math.max(min, theirs[0])) return version;
  const words = theirs === undefined ? "not at all" : `${theirs[0]} to ${theirs[1]}`;
  throw new NamedError(
    "TOO_OLD",
    `the cluster serves ${name} ${words}, but version ${min} is needed`,
    "Kafka 2.5 or newer is needed.",
  );
}
