// The `main` connection: frames in and out, one write per turn of the event loop, and the table of open requests.

import type { Socket } from "node:net";

import { FrameDecoder, type FrameId, Kind, header } from "./frames.mjs";
import { decode, encode } from "./msgpack.mjs";

export type Receive = (kind: number, id: FrameId, body: Buffer) => void;

const EVENT_FRAME_LIMIT = 256 * 1024;
const CONGESTED_FROM = 4 * 1024 * 1024;
const LAZY_DELAY_MS = 3;

/** The host answered a request with an error. */
export class HostError extends Error {
  readonly status: number | undefined;

  constructor(error: string, message: string, status?: number) {
    super(message);
    this.name = error;
    this.status = status;
  }
}

interface Answer {
  resolve(result: Buffer): void;
  reject(error: Error): void;
}

/** Frames to and from the host, written in the order in which they were sent. */
export class Connection {
  readonly #socket: Socket;
  readonly #decoder = new FrameDecoder();
  readonly #requests = new Map<number, Answer>();
  #nextRequest = 0;
  #out: Uint8Array[] = [];
  #soon = false;
  #later: NodeJS.Timeout | undefined;
  #eventSlot = 0;
  #eventParts: Uint8Array[] = [];
  #eventSize = 0;
  #drained: Promise<void> | undefined;
  #lost = false;

  constructor(socket: Socket, receive: Receive, closed: () => void) {
    this.#socket = socket;
    socket.on("data", (data: Buffer) => {
      for (const { kind, id, body } of this.#decoder.feed(data)) {
        if (kind === Kind.REPLY) this.#answer(id.number, body);
        else receive(kind, id, body);
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#lost = true;
      for (const answer of this.#requests.values()) answer.reject(new Error("the connection to the host is closed"));
      closed();
    });
    socket.resume();
  }

  /** Queues a frame around a finished body. */
  send(kind: number, id: number, body: Uint8Array, ours = false, lazy = false): void {
    this.#finishEvents();
    this.#out.push(header(kind, id, body.length, ours), body);
    this.#schedule(lazy);
  }

  /** Queues a frame whose body is a msgpack map. */
  sendMap(kind: number, id: number, body: object, ours = false): void {
    this.send(kind, id, encode(body), ours);
  }

  /** An id for something that this side begins. */
  newId(): number {
    return ++this.#nextRequest;
  }

  /** Queues a frame that may wait up to 3 ms for another frame to ride with. */
  sendLazily(kind: number, id: number, body: object): void {
    this.send(kind, id, encode(body), false, true);
  }

  /** Queues an event; events of one run that follow each other share a frame. */
  sendEvent(slot: number, prefix: Uint8Array, data: Buffer): void {
    if (slot !== this.#eventSlot || this.#eventSize > EVENT_FRAME_LIMIT) this.#finishEvents();
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(data.length);
    this.#eventSlot = slot;
    this.#eventParts.push(prefix, length, data);
    this.#eventSize += prefix.length + length.length + data.length;
    this.#schedule(false);
  }

  /** Sends a request and waits for the msgpack that answers it. Throws `HostError` when that is an error. */
  async request(kind: number, body: object): Promise<any> {
    if (this.#lost) throw new Error("the connection to the host is closed");
    const id = this.newId();
    const answered = new Promise<Buffer>((resolve, reject) => this.#requests.set(id, { resolve, reject }));
    this.send(kind, id, encode(body), true);
    const result = await answered;
    return result.length > 0 ? decode(result) : null;
  }

  /** Answers a request of the host. */
  reply(id: number, result: Uint8Array): void {
    this.send(Kind.REPLY, id, Buffer.concat([Buffer.of(0), result]));
  }

  /** Answers a request of the host with an error. */
  replyError(id: number, error: object): void {
    this.send(Kind.REPLY, id, Buffer.concat([Buffer.of(1), Buffer.from(JSON.stringify(error))]));
  }

  /** What to wait for before more is sent, when the socket has more unsent bytes than it should. */
  room(): Promise<void> | undefined {
    if (this.#socket.writableLength < CONGESTED_FROM || this.#lost) return undefined;
    this.#drained ??= new Promise((resolve) => {
      const done = () => {
        this.#socket.off("drain", done).off("close", done);
        this.#drained = undefined;
        resolve();
      };
      this.#socket.on("drain", done).on("close", done);
    });
    return this.#drained;
  }

  /** Writes everything out and closes. */
  async finish(): Promise<void> {
    this.#flush();
    await new Promise<void>((resolve) => this.#socket.end(resolve));
  }

  #answer(id: number, body: Buffer): void {
    const answer = this.#requests.get(id);
    if (answer === undefined) return;
    this.#requests.delete(id);
    if (body[0] === 0) return answer.resolve(body.subarray(1));
    const { error, message, status } = JSON.parse(body.toString("utf8", 1));
    answer.reject(new HostError(error ?? "HostError", message ?? "", status));
  }

  #finishEvents(): void {
    if (this.#eventParts.length === 0) return;
    this.#out.push(header(Kind.EVENT, this.#eventSlot, this.#eventSize), ...this.#eventParts);
    this.#eventParts = [];
    this.#eventSize = 0;
  }

  #schedule(lazy: boolean): void {
    if (this.#soon) return;
    if (lazy) {
      this.#later ??= setTimeout(() => this.#flush(), LAZY_DELAY_MS);
      return;
    }
    this.#soon = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#soon = false;
    clearTimeout(this.#later);
    this.#later = undefined;
    this.#finishEvents();
    if (this.#out.length === 0 || this.#lost) return;
    const data = Buffer.concat(this.#out);
    this.#out = [];
    this.#socket.write(data);
  }
}

