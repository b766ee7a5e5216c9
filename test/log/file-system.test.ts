import fs from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { nodeFileSystem } from "../../src/log/file-system.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

afterEach(() => vi.restoreAllMocks());

async function linked(): Promise<{ names: string[]; removed: string[]; content: string }> {
  const folder = await temporaryFolder();
  const [from, to] = [join(folder, "from"), join(folder, "to")];
  fs.writeFileSync(from, "content");
  await nodeFileSystem.link(from, to);
  const names = fs.readdirSync(folder).sort();
  await nodeFileSystem.remove(from);
  return { names, removed: fs.readdirSync(folder), content: fs.readFileSync(to, "utf8") };
}

it("gives a file a second name, which stays when the first one goes", async () => {
  expect(await linked()).toEqual({ names: ["from", "to"], removed: ["to"], content: "content" });
});

it.each(["EPERM", "ENOTSUP", "ENOSYS"])("renames it where there are no links (%s)", async (code) => {
  vi.spyOn(fs.promises, "link").mockRejectedValue(Object.assign(new Error(code), { code }));
  expect(await linked()).toEqual({ names: ["to"], removed: ["to"], content: "content" });
});

it("says what else is wrong with a link", async () => {
  vi.spyOn(fs.promises, "link").mockRejectedValue(Object.assign(new Error("no room"), { code: "ENOSPC" }));
  await expect(linked()).rejects.toThrow("no room");
});

it("removes a file, a folder with all that is in it, and nothing where there is nothing", async () => {
  const folder = await temporaryFolder();
  for (const name of ["a", "b"]) fs.mkdirSync(join(folder, name));
  fs.writeFileSync(join(folder, "a", "inside"), "content");
  fs.writeFileSync(join(folder, "c"), "content");
  for (const name of ["a", "c", "never there"]) await nodeFileSystem.remove(join(folder, name));
  expect(fs.readdirSync(folder)).toEqual(["b"]);
});

describe("a large file's name", () => {
  const BYTES = 5 << 20;

  async function large(): Promise<{ folder: string; path: string; reader: number }> {
    const folder = await temporaryFolder();
    const path = join(folder, "large");
    fs.writeFileSync(path, Buffer.alloc(BYTES, 7));
    const reader = fs.openSync(path, "r");
    onTestFinished(() => fs.closeSync(reader));
    return { folder, path, reader };
  }

  it("goes, and its readers have all of it until its space is given back", async () => {
    const { folder, path, reader } = await large();
    const giveBack = await nodeFileSystem.removeName(path);
    expect(fs.readdirSync(folder)).toEqual([]);
    expect(fs.fstatSync(reader).size).toBe(BYTES);
    await giveBack();
    expect(fs.fstatSync(reader).size).toBeLessThanOrEqual(1 << 20);
  });

  it("goes, and a copy of it by a link stays whole", async () => {
    const { folder, path, reader } = await large();
    fs.linkSync(path, join(folder, "copy"));
    await (await nodeFileSystem.removeName(path))();
    expect(fs.readdirSync(folder)).toEqual(["copy"]);
    expect(fs.fstatSync(reader).size).toBe(BYTES);
  });

  it("may be gone already", async () => {
    await (await nodeFileSystem.removeName(join(await temporaryFolder(), "never there")))();
  });
});
