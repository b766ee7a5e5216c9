/** The kernel gives a closed file's number to the next one that is opened: what is closed twice closes another's. */
import { expect, it } from "vitest";
import type { File, FileSystem, OpenMode } from "../../src/log/file-system.ts";
import { SegmentFile } from "../../src/log/segment-file.ts";

/** Opens when it is told to; counts how often each file was closed. */
class Disk {
  readonly closed: number[] = [];
  readonly waiting: { readonly mode: OpenMode; settle(error?: Error): void }[] = [];
  closeError: Error | undefined;
  givenBack = 0;

  readonly fileSystem = {
    removeName: async () => async () => {
      expect(this.closed.every((times) => times === 1)).toBe(true);
      this.givenBack++;
    },
    open: (_path: string, mode: OpenMode) =>
      new Promise<File>((resolve, reject) => {
        this.waiting.push({
          mode,
          settle: (error) => {
            if (error !== undefined) return reject(error);
            const number = this.closed.push(0) - 1;
            const close = async (): Promise<void> => {
              (this.closed[number] as number)++;
              if (this.closeError !== undefined) throw this.closeError;
            };
            resolve({ close } as unknown as File);
          },
        });
      }),
  } as unknown as FileSystem;

  settle(mode: OpenMode, error?: Error): void {
    this.waiting.find((one) => one.mode === mode)?.settle(error);
  }
}

it("is closed once, where it was open for reading and could not be opened for writing", async () => {
  const disk = new Disk();
  const file = new SegmentFile(disk.fileSystem, () => "s");
  const reading = file.acquire("read");
  disk.settle("read");
  await reading;
  const writing = file.acquire("write");
  disk.settle("write", new Error("EMFILE"));
  await expect(writing).rejects.toThrow("EMFILE");
  file.release();
  await file.close();
  expect(disk.closed).toEqual([1]);
});

it("is closed once each, whichever of its reader and its writer gets it first", async () => {
  for (const order of [["read", "write"] as const, ["write", "read"] as const]) {
    const disk = new Disk();
    const file = new SegmentFile(disk.fileSystem, () => "s");
    const users = [file.acquire("read"), file.acquire("write")];
    for (const mode of order) {
      disk.settle(mode);
      await new Promise(setImmediate);
    }
    await Promise.all(users);
    for (const _ of users) file.release();
    await file.close();
    expect(disk.closed).toEqual([1, 1]);
  }
});

it("may say anything when it is closed: nothing ends for that, and all is closed", async () => {
  const disk = new Disk();
  disk.closeError = new Error("EIO");
  const file = new SegmentFile(disk.fileSystem, () => "s");
  const users = [file.acquire("read"), file.acquire("write")];
  for (const mode of ["read", "write"] as const) disk.settle(mode);
  await Promise.all(users);
  for (const _ of users) file.release();
  await expect(file.close()).resolves.toBeUndefined();
  expect(disk.closed).toEqual([1, 1]);
});

it("gives its space back once its name is gone, when the last reader is done", async () => {
  const disk = new Disk();
  const file = new SegmentFile(disk.fileSystem, () => "s");
  const readers = [file.acquire("read"), file.acquire("read")];
  disk.settle("read");
  await Promise.all(readers);
  await file.removeName();
  await file.close();
  file.release();
  await new Promise(setImmediate);
  expect(disk.givenBack).toBe(0);
  // Asked again, as retention does when the disk refused a sync.
  await file.removeName();
  await file.close();
  file.release();
  await new Promise(setImmediate);
  expect(disk.closed).toEqual([1]);
  expect(disk.givenBack).toBe(1);
  await expect(file.acquire("read")).rejects.toMatchObject({ code: "SEGMENT_GONE" });
});
