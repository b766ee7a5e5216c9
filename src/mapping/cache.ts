/**
 * A bounded cache that costs one look-up for what is in use: entries are born into the young generation; when
 * that has its half of the bound, it becomes the old one and what the old one still held is forgotten.
 */
export class TwoGenerations<V> {
  private readonly maxEntries: number;
  private readonly maxBytes: number;
  private young = new Map<string, { readonly value: V; readonly bytes: number }>();
  private old: typeof this.young = new Map();
  private youngBytes = 0;

  constructor(maxEntries: number, maxBytes: number) {
    this.maxEntries = maxEntries / 2;
    this.maxBytes = maxBytes / 2;
  }

  get(key: string): V | undefined {
    const entry = this.young.get(key);
    if (entry !== undefined) return entry.value;
    const kept = this.old.get(key);
    if (kept !== undefined) this.set(key, kept.value, kept.bytes);
    return kept?.value;
  }

  set(key: string, value: V, bytes: number): void {
    if (this.young.size >= this.maxEntries || this.youngBytes + bytes > this.maxBytes) {
      this.old = this.young;
      this.young = new Map();
      this.youngBytes = 0;
    }
    this.young.set(key, { value, bytes });
    this.youngBytes += bytes;
  }
}
