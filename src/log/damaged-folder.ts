/**
 * A data folder while it is mended (`sluice log repair`): what is damaged goes to its `quarantine/<when>/`, and what
 * was done is written down in words.
 */
import { basename, dirname, join } from "node:path";
import { type FileSystem, replaceFile } from "./file-system.ts";
import type { InspectionOptions } from "./inspection.ts";

export class DamagedFolder {
  readonly fileSystem: FileSystem;
  readonly dataDir: string;
  /** What was done, file by file. */
  readonly done: string[] = [];
  private readonly quarantineName: string;
  private readonly onProgress: InspectionOptions["onProgress"];
  private isQuarantineUsed = false;
  private bytes = 0;

  constructor(
    fileSystem: FileSystem,
    dataDir: string,
    { onProgress, now = new Date() }: Pick<InspectionOptions, "onProgress"> & { readonly now?: Date },
  ) {
    this.fileSystem = fileSystem;
    this.dataDir = dataDir;
    this.onProgress = onProgress;
    this.quarantineName = `quarantine/${now.toISOString().replaceAll(":", "-")}`;
  }

  /** Undefined when nothing had to go there. */
  get quarantined(): string | undefined {
    return this.isQuarantineUsed ? this.quarantineName : undefined;
  }

  path(file: string): string {
    return join(this.dataDir, file);
  }

  async read(file: string): Promise<Buffer | undefined> {
    const content = await this.fileSystem.readFile(this.path(file));
    this.bytes += content?.length ?? 0;
    this.onProgress?.({ file, bytes: this.bytes });
    return content;
  }

  /** Moves a file or folder away; its name is gone for good when this resolves. */
  async quarantine(file: string, why: string): Promise<void> {
    const { fileSystem } = this;
    const target = this.path(`${this.quarantineName}/${file}`);
    await fileSystem.makeFolder(dirname(target));
    await fileSystem.rename(this.path(file), target);
    for (const folder of [dirname(target), dirname(this.path(file)), this.dataDir])
      await fileSystem.syncFolder(folder);
    this.isQuarantineUsed = true;
    this.done.push(`${file}: ${why}; moved to ${this.quarantineName}`);
  }

  /** Of a file whose place another one takes. */
  async keepCopy(file: string, content: Buffer, why: string): Promise<void> {
    const target = this.path(`${this.quarantineName}/${file}`);
    await this.fileSystem.makeFolder(dirname(target));
    await replaceFile(this.fileSystem, dirname(target), basename(target), content);
    this.isQuarantineUsed = true;
    this.done.push(`${file}: ${why}; kept in ${this.quarantineName}, and what is sound of it written again`);
  }
}
