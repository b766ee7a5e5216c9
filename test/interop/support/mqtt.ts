/** MQTT clients of the tests: mqtt.js, and publishers that keep books about what was acknowledged. */
import mqtt, { type IClientOptions, type MqttClient } from "mqtt";

/** A client that stays disconnected once it is; `reconnectPeriod` says otherwise. */
export const connectMqtt = (url: string, options: IClientOptions = {}): Promise<MqttClient> =>
  mqtt.connectAsync(url, { reconnectPeriod: 0, connectTimeout: 10_000, ...options });

/** What a `NumberingSensor` sends. */
export const readingOf = (sensor: string, number: number): string => JSON.stringify({ sensor, number });

/**
 * A sensor that numbers its readings and resends, over a new connection, what was not acknowledged (with QoS 2:
 * completed). At most `window` readings wait for their acknowledgement at a time.
 */
export class NumberingSensor {
  readonly name: string;
  readonly acknowledged = new Set<number>();
  sent = 0;
  /** Told at each acknowledgement. */
  onAcknowledged = (): void => {};
  private readonly client: MqttClient;
  private readonly window: number;
  private readonly qos: 1 | 2;
  /** Makes each reading larger. */
  private readonly ballast: string;
  /** From an acknowledgement to the next reading; 0: none. */
  private readonly everyMs: number;
  private running = true;

  constructor(
    url: string,
    name: string,
    window: number,
    { qos = 1, ballast = "", everyMs = 0 }: { qos?: 1 | 2; ballast?: string; everyMs?: number } = {},
  ) {
    this.name = name;
    this.window = window;
    this.qos = qos;
    this.ballast = ballast;
    this.everyMs = everyMs;
    this.client = mqtt.connect(url, {
      clientId: name,
      clean: false,
      reconnectPeriod: 20,
      connectTimeout: 2_000,
    });
    this.client.on("error", () => {}); // refused while the gateway is down
    this.client.on("connect", () => this.fill());
  }

  private fill(): void {
    while (this.running && this.sent - this.acknowledged.size < this.window) {
      this.publish(this.sent++);
    }
  }

  private publish(number: number): void {
    const { name: sensor, ballast } = this;
    const payload = ballast === "" ? readingOf(sensor, number) : JSON.stringify({ sensor, number, ballast });
    this.client.publish(`sensors/hall/${this.name}/temperature`, payload, { qos: this.qos }, (error) => {
      if (error) {
        // What mqtt.js is given while it sends its store again, it forgets if that connection ends as well: it
        // has not been sent, and is the caller's to give again.
        if (!this.client.disconnecting) setImmediate(() => this.publish(number));
        return;
      }
      this.acknowledged.add(number);
      this.onAcknowledged();
      if (this.everyMs > 0) setTimeout(() => this.fill(), this.everyMs);
      else setImmediate(() => this.fill());
    });
  }

  /** Sends nothing new from here on. */
  finish(): void {
    this.running = false;
  }

  /** Goes on after `finish`. */
  resume(): void {
    this.running = true;
    this.fill();
  }

  get settled(): boolean {
    return this.acknowledged.size === this.sent;
  }

  async close(): Promise<void> {
    this.finish();
    await this.client.endAsync(true);
  }
}
