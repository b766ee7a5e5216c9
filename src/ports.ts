/**
 * The TCP ports that a server has open, changed as a whole while it runs: `open` what is new, and when all of
 * that could be had, `keepOnly` what is wanted; otherwise `keepOnly` what was.
 */
import { once } from "node:events";
import type { AddressInfo, Server, Socket } from "node:net";

export interface PortAddress {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
}

interface OpenPort {
  readonly wanted: PortAddress;
  readonly server: Server;
  readonly address: PortAddress;
}

export class Ports {
  private readonly create: (wanted: PortAddress) => Server;
  private readonly onError: (error: Error, address: PortAddress) => void;
  private ports: readonly OpenPort[] = [];
  /** Servers that still have connections, those that listen among them. */
  private readonly servers = new Set<Server>();

  /** `create` makes a server for an address, which does not listen yet; `onError` hears what fails once it does. */
  constructor(
    create: (wanted: PortAddress) => Server,
    onError: (error: Error, address: PortAddress) => void,
  ) {
    this.create = create;
    this.onError = onError;
  }

  /** Where clients connect, in the order of the last `keepOnly`. */
  get addresses(): readonly PortAddress[] {
    return this.ports.map(({ address }) => address);
  }

  /**
   * Opens those that are not open yet. Throws `listenError`'s of the first that cannot be had; then all is as
   * it was before.
   */
  async open(
    wanted: readonly PortAddress[],
    listenError: (error: NodeJS.ErrnoException, index: number) => Error,
  ): Promise<void> {
    const before = this.ports;
    for (const [index, address] of wanted.entries()) {
      if (this.find(address, wanted.slice(0, index)) !== undefined) continue;
      try {
        // 127.0.0.1:1883 and 0.0.0.0:1883 cannot both be open: the one that goes makes way now.
        const inTheWay = this.ports.filter(({ wanted: own }) => own.port === address.port && own.port !== 0);
        this.close(inTheWay.filter(({ wanted: own }) => !wanted.some((one) => isSame(one, own))));
        this.ports = [...this.ports, await this.listen(address)];
      } catch (error) {
        this.close(this.ports.filter((port) => !before.includes(port)));
        for (const port of before) if (!this.ports.includes(port)) await this.reopen(port.wanted);
        throw listenError(error as NodeJS.ErrnoException, index);
      }
    }
  }

  /** Stops listening everywhere else; the connections that came in there stay. */
  keepOnly(wanted: readonly PortAddress[]): void {
    const kept = wanted.flatMap((address, index) => this.find(address, wanted.slice(0, index)) ?? []);
    this.close(this.ports.filter((port) => !kept.includes(port)));
    this.ports = kept;
  }

  /** Whether a connection that is open could be made anew now. */
  leadTo({ localAddress = "", localPort }: Socket): boolean {
    const host = localAddress.replace(/^::ffff:(?=\d+\.)/i, "");
    return this.ports.some(({ address }) => {
      const isAny = address.host === "::" || address.host === "0.0.0.0";
      return address.port === localPort && (isAny || address.host === host);
    });
  }

  /** Accepts nothing more; resolves when the last connection has ended. */
  async closeAll(): Promise<void> {
    this.close(this.ports);
    const closed = (server: Server) => new Promise((resolve) => server.once("close", resolve));
    await Promise.all([...this.servers].map(closed));
  }

  /** The port open for `address`; each is found once, as several may ask for any free port of a host. */
  private find(address: PortAddress, earlier: readonly PortAddress[]): OpenPort | undefined {
    const nth = earlier.filter((one) => isSame(one, address)).length;
    return this.ports.filter(({ wanted }) => isSame(wanted, address))[nth];
  }

  private async listen(wanted: PortAddress): Promise<OpenPort> {
    const server = this.create(wanted);
    server.listen({ host: wanted.host, port: wanted.port, backlog: 1024 });
    await once(server, "listening");
    server.on("error", (error) => this.onError(error, wanted));
    this.servers.add(server);
    server.once("close", () => this.servers.delete(server));
    const { address: host, port } = server.address() as AddressInfo;
    return { wanted, server, address: { host, port } };
  }

  private async reopen(wanted: PortAddress): Promise<void> {
    try {
      this.ports = [...this.ports, await this.listen(wanted)];
    } catch (error) {
      this.onError(error as Error, wanted);
    }
  }

  private close(ports: readonly OpenPort[]): void {
    for (const { server } of ports) server.close();
    this.ports = this.ports.filter((port) => !ports.includes(port));
  }
}

export function isSame(a: PortAddress, b: PortAddress): boolean {
  return a.host === b.host && a.port === b.port;
}
