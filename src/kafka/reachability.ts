/**
 * Whether clients can reach the address that they are told, as far as that can be known from here: hints for the
 * log, each at most once an hour and client.
 *
 * Two things give it away: a client from elsewhere that is told an address of this machine only, and one that
 * asks Metadata again and again and never does anything else, because it cannot connect to where it is sent (the
 * address inside a container, say, whose port is mapped).
 */
import { isIPv6 } from "node:net";
import { type Logger, RateLimitedLog } from "../logger.ts";
import type { Endpoint } from "./api.ts";

const HINT_EVERY_MS = 3_600_000;
/** So often in so long: more than a tool that lists streams, less than a client's retries. */
const ASKED_TIMES = 10;
const ASKED_WITHIN_MS = 60_000;
const MAX_HOSTS = 1_000;
const MEND = "set kafka.advertise to the host:port at which clients reach this gateway";

export class Reachability {
  private readonly logger: Logger;
  private readonly limited = new RateLimitedLog(HINT_EVERY_MS);
  /** Who has asked Metadata and nothing else, since when and how often. */
  private readonly asking = new Map<string, { since: number; times: number }>();
  /** Who got through. */
  private readonly served = new Set<string>();
  private readonly now: () => number;

  constructor(logger: Logger, now: () => number = () => performance.now()) {
    this.logger = logger;
    this.now = now;
  }

  /** A client was told where to connect to. */
  told(clientHost: string, advertised: Endpoint): void {
    if (!isLocal(clientHost) && isHereOnly(advertised.host)) {
      this.hint(
        clientHost,
        advertised,
        "a Kafka client was told an address that it cannot reach from where it is",
      );
    } else if (!this.served.has(clientHost)) {
      this.count(clientHost, advertised);
    }
  }

  /** A client has asked for more than an address. */
  used(clientHost: string): void {
    this.asking.delete(clientHost);
    if (this.served.size >= MAX_HOSTS) this.served.clear();
    this.served.add(clientHost);
  }

  private count(clientHost: string, advertised: Endpoint): void {
    const now = this.now();
    let entry = this.asking.get(clientHost);
    if (entry === undefined || now - entry.since > ASKED_WITHIN_MS) {
      if (this.asking.size >= MAX_HOSTS) this.asking.clear();
      entry = { since: now, times: 0 };
      this.asking.set(clientHost, entry);
    }
    if (++entry.times < ASKED_TIMES) return;
    this.asking.delete(clientHost);
    this.hint(
      clientHost,
      advertised,
      "a Kafka client asks where to connect again and again, and never comes",
    );
  }

  private hint(clientHost: string, { host, port }: Endpoint, words: string): void {
    this.limited.say(clientHost, () =>
      this.logger.warn({ clientHost, told: `${host}:${port}`, mend: MEND }, words),
    );
  }
}

function isLocal(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

/** Means another machine to whoever hears it: the loopback, all addresses, a link's own without its zone. */
function isHereOnly(host: string): boolean {
  return isLocal(host) || host === "0.0.0.0" || host === "::" || (isIPv6(host) && /^fe[89ab]/i.test(host));
}
