import { describe, expect, it } from "vitest";
import { type CutStyle, DiskImage, NOTHING_UNSYNCED_SURVIVES } from "./disk-image.ts";
import { Random } from "./random.ts";
import { SimulatedDisk } from "./simulated-disk.ts";

const EVERYTHING: CutStyle = { data: 1, sizes: 1, names: 1, stale: 0 };

function freshDisk(): SimulatedDisk {
  return new SimulatedDisk(new DiskImage(512));
}

/** What the disk holds after power cuts by many seeds, each different outcome once. */
function outcomes(disk: SimulatedDisk, style: CutStyle, path: string): Set<string> {
  const found = new Set<string>();
  for (let seed = 0; seed < 200; seed++) {
    const left = disk.image().afterPowerCut(new Random(seed), style).files().get(path);
    found.add(left?.toString("latin1").replaceAll("\0", "0") ?? "nothing");
  }
  return found;
}

async function write(disk: SimulatedDisk, path: string, content: string, position = 0): Promise<void> {
  await (await disk.open(path, "write")).write([Buffer.from(content)], position);
}

async function sync(disk: SimulatedDisk, path: string): Promise<void> {
  await (await disk.open(path, "write")).sync();
}

describe("the simulated disk", () => {
  it("keeps neither a file that was synced without its folder, nor a name that was synced without its file", async () => {
    const disk = freshDisk();
    await write(disk, "/unnamed", "bytes");
    await sync(disk, "/unnamed");
    expect(outcomes(disk, NOTHING_UNSYNCED_SURVIVES, "/unnamed")).toEqual(new Set(["nothing"]));
    await write(disk, "/empty", "bytes");
    await disk.syncFolder("/");
    expect(outcomes(disk, NOTHING_UNSYNCED_SURVIVES, "/empty")).toEqual(new Set([""]));
    expect(outcomes(disk, NOTHING_UNSYNCED_SURVIVES, "/unnamed")).toEqual(new Set(["bytes"]));
    expect(outcomes(disk, EVERYTHING, "/empty")).toEqual(new Set(["bytes"]));
  });

  it("does not make a folder's own name safe with the names in it", async () => {
    const disk = freshDisk();
    await disk.makeFolder("/a/b");
    await write(disk, "/a/b/file", "x");
    await sync(disk, "/a/b/file");
    await disk.syncFolder("/a/b");
    await disk.syncFolder("/");
    expect(outcomes(disk, NOTHING_UNSYNCED_SURVIVES, "/a/b/file")).toEqual(new Set(["nothing"]));
    await disk.syncFolder("/a");
    expect(outcomes(disk, NOTHING_UNSYNCED_SURVIVES, "/a/b/file")).toEqual(new Set(["x"]));
  });

  it("tears a write at sectors, in any order, and loses sizes without data and data without sizes", async () => {
    const disk = freshDisk();
    await write(disk, "/f", "a".repeat(1024));
    await sync(disk, "/f");
    await disk.syncFolder("/");
    await write(disk, "/f", "b".repeat(1100));
    const style = { ...EVERYTHING, data: 0.5, sizes: 0.5 };
    const sector = (letter: string): string => letter.repeat(512);
    const all = [
      ...["aa", "ab", "ba", "bb"].map((two) => sector(two[0] as string) + sector(two[1] as string)),
    ].flatMap((two) => [two, two + "0".repeat(76), two + "b".repeat(76)]);
    expect([...outcomes(disk, style, "/f")].sort()).toEqual(all.sort());
  });

  it("leaves of a rename both names, either or none", async () => {
    const disk = freshDisk();
    await write(disk, "/from", "x");
    await sync(disk, "/from");
    await disk.syncFolder("/");
    await disk.rename("/from", "/to");
    const found = new Set<string>();
    for (let seed = 0; seed < 100; seed++) {
      const left = disk.image().afterPowerCut(new Random(seed), { ...EVERYTHING, names: 0.5 });
      found.add([...left.files().keys()].sort().join(" "));
    }
    expect(found).toEqual(new Set(["", "/from", "/to", "/from /to"]));
  });

  it("makes safe what a durable write wrote, and none of what was written beside it", async () => {
    const disk = freshDisk();
    await write(disk, "/f", "-".repeat(2048));
    await sync(disk, "/f");
    await disk.syncFolder("/");
    await write(disk, "/f", "lost", 0);
    await (await disk.open("/f", "durable")).writeDurably([Buffer.from("kept")], 1024);
    const [left] = outcomes(disk, NOTHING_UNSYNCED_SURVIVES, "/f");
    expect(left?.slice(0, 4)).toBe("----");
    expect(left?.slice(1024, 1028)).toBe("kept");
  });

  it("makes safe what was there when a sync was asked for, and not what came while it ran", async () => {
    const disk = new SimulatedDisk(new DiskImage(512), { latency: new Random(1) });
    await write(disk, "/f", "before");
    await disk.syncFolder("/");
    let late: Promise<void> | undefined;
    const watched = new SimulatedDisk(disk.image(), {
      onBoundary: ({ moment, step }) => {
        if (moment === "during" && step.startsWith("sync")) late = write(watched, "/f", "behind");
      },
    });
    await sync(watched, "/f");
    await late;
    expect(outcomes(watched, NOTHING_UNSYNCED_SURVIVES, "/f")).toEqual(new Set(["before"]));
  });

  it("lets what a deleted file held shine through where nothing was written", async () => {
    const disk = freshDisk();
    await write(disk, "/old", "stale".padEnd(512, "!"));
    await disk.remove("/old");
    await write(disk, "/new", "n".repeat(512));
    const style = { data: 0, sizes: 1, names: 1, stale: 1 };
    expect(outcomes(disk, style, "/new")).toEqual(new Set(["stale".padEnd(512, "!")]));
  });

  it("answers nothing any more once the power has gone", async () => {
    const disk = freshDisk();
    await write(disk, "/f", "x");
    disk.die();
    const answer = await Promise.race([
      disk.readFile("/f"),
      new Promise((resolve) => setImmediate(resolve, "silence")),
    ]);
    expect(answer).toBe("silence");
  });
});
