/**
 * All connections of a server are read into one buffer, one after another: Node by itself allocates 64 KiB for each
 * read and leaves it to the garbage collector, which under load marks the whole heap for nothing else.
 *
 * `onread` is how Node offers it, but only to sockets that one makes oneself; so an accepted one hands its handle
 * over to such a socket. Where it has none that can be had, it stays as it is.
 */
import { Socket } from "node:net";

/** What one system call reads at most. */
const READ_BYTES = 256 << 10;

export class SharedReads {
  private readonly buffer = Buffer.allocUnsafeSlow(READ_BYTES);

  /**
   * The socket to use from now on instead of `accepted`, which is paused and has read nothing; so is this one.
   * `onRead` is given what came, for as long as it does not return.
   */
  take(accepted: Socket, onRead: (chunk: Buffer) => void): Socket {
    const { buffer } = this;
    const owner = accepted as unknown as { _handle?: unknown };
    const handle = owner._handle;
    if (typeof (handle as { useUserBuffer?: unknown } | undefined)?.useUserBuffer !== "function") {
      return accepted.on("data", onRead).pause();
    }
    owner._handle = null;
    const callback = (bytes: number): boolean => {
      onRead(buffer.subarray(0, bytes));
      return true;
    };
    const options = { handle, onread: { buffer, callback }, readable: true, writable: true };
    const socket = new Socket(options as ConstructorParameters<typeof Socket>[0]);
    // From here on the server knows nothing of it: whoever closes waits for the connections themselves.
    accepted.destroy();
    return socket;
  }
}
