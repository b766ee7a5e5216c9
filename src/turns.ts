/**
 * Who of all clients, of MQTT and of Kafka, may go on when it has had its turn.
 *
 * Mostly in the next turn of the event loop. But one that sends as fast as it is read would fill a processor: others
 * have their turns even then, yet each process that the same processor runs waits for its time slice, the gateway's own
 * threads among them. So beside others it pauses for twice the time that it took. Alone it gets everything; who takes
 * little of the time is never held up, however many of them there are.
 *
 * Compaction, which has time, has its turns as one of them.
 *
 * Others are MQTT clients: who waits for what they send need not be known. What is done later and elsewhere for a
 * client is added by guess: what aedes and the queues of kept sessions do for one of MQTT, reading and sending for one
 * of Kafka.
 */

/** For so long after it has sent something a client counts as being there. */
const PRESENT_MS = 100;
/** The part of the time from which on a client is one that floods. */
const FLOOD_SHARE = 1 / 4;
const PAUSE_FACTOR = 2;
/** What a timer can do. */
const MIN_PAUSE_MS = 1;
const MAX_PAUSE_MS = 20;

export class Turns {
  private latest: object | undefined;
  private latestAt = Number.NEGATIVE_INFINITY;
  /** When the last one other than `latest` was there. */
  private othersAt = Number.NEGATIVE_INFINITY;

  /** It has sent something. All times are those of `performance.now`. */
  present(client: object, now: number): void {
    if (client !== this.latest) {
      this.latest = client;
      this.othersAt = this.latestAt;
    }
    this.latestAt = now;
  }

  /** Whether others were there of late, whom this client's flood would hold up. */
  hasOthers(client: object): boolean {
    const othersAt = client === this.latest ? this.othersAt : this.latestAt;
    return performance.now() - othersAt < PRESENT_MS;
  }

  /**
   * The client has had its turn, and worked for `tookMs` of the last `sinceMs`: calls back when it may go on. Returns
   * whether that is in the next turn of the event loop.
   */
  end(client: object, tookMs: number, sinceMs: number, goOn: () => void): boolean {
    const isNext = !this.hasOthers(client) || tookMs < sinceMs * FLOOD_SHARE;
    if (isNext) setImmediate(goOn);
    else setTimeout(goOn, Math.min(Math.max(PAUSE_FACTOR * tookMs, MIN_PAUSE_MS), MAX_PAUSE_MS));
    return isNext;
  }
}
