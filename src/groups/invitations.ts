/** Member ids given out with MEMBER_ID_REQUIRED (KIP-394) that have not joined yet; each is kept for its session timeout. */
import type { Clock } from "../clock.ts";
import { Timeout } from "./timeout.ts";

export class Invitations {
  private readonly clock: Clock;
  private readonly onExpired: () => void;
  private readonly expiries = new Map<string, Timeout>();

  /** `onExpired` is called for each that nobody has used in time; it is gone by then. */
  constructor(clock: Clock, onExpired: () => void) {
    this.clock = clock;
    this.onExpired = onExpired;
  }

  get size(): number {
    return this.expiries.size;
  }

  has(memberId: string): boolean {
    return this.expiries.has(memberId);
  }

  add(memberId: string, sessionTimeoutMs: number): void {
    const expiry = new Timeout(this.clock, () => {
      this.expiries.delete(memberId);
      this.onExpired();
    });
    expiry.set(sessionTimeoutMs);
    this.expiries.set(memberId, expiry);
  }

  /** Whether there was one. */
  delete(memberId: string): boolean {
    this.expiries.get(memberId)?.clear();
    return this.expiries.delete(memberId);
  }

  clear(): void {
    for (const expiry of this.expiries.values()) expiry.clear();
    this.expiries.clear();
  }
}
