/** Producer ids are never given twice: a block of them is reserved, durably, before the first of it is given. */

const BLOCK = 1000;

export class ProducerIds {
  private readonly reserve: (end: number) => Promise<void>;
  private nextId = 0;
  private reserved = 0;
  private reserving: Promise<void> | undefined;

  /** `reserve` makes durable that all ids below `end` may have been given. */
  constructor(reserve: (end: number) => Promise<void>) {
    this.reserve = reserve;
  }

  /** `end`: what was last reserved. */
  load(end: number): void {
    this.nextId = end;
    this.reserved = end;
  }

  async next(): Promise<number> {
    while (this.nextId >= this.reserved) {
      this.reserving ??= this.reserveBlock().finally(() => {
        this.reserving = undefined;
      });
      await this.reserving;
    }
    return this.nextId++;
  }

  private async reserveBlock(): Promise<void> {
    const end = this.reserved + BLOCK;
    await this.reserve(end);
    this.nextId = this.reserved;
    this.reserved = end;
  }
}
