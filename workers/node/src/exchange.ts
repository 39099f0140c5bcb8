// One exchange of ASGI messages with the host: a request and its answer. Neither side gets more than a window ahead of
// what the other has taken.

import type { Connection } from "./connection.ts";
import type { ErrorBody } from "./failures.ts";
import { Kind } from "./frames.mjs";

export interface Message {
  type: string;
  body?: Uint8Array;
  more_body?: boolean;
  status?: number;
  headers?: [Uint8Array, Uint8Array][];
}

/** Which exchange: those that the worker begins have ids of their own. */
export interface ExchangeId {
  number: number;
  ours: boolean;
}

/** How many bytes of payload either side may send before the other takes some. */
const WINDOW = 256 * 1024;
const PIECE = 64 * 1024;
const CREDIT_AT = WINDOW / 4;
const DISCONNECT = "http.disconnect";

/** What a request is read from, and its answer written to. */
export class Exchange {
  readonly #id: ExchangeId;
  readonly #connection: Connection;
  readonly #gone = new AbortController();
  readonly #incoming: Message[] = [];
  #arrived: (() => void) | undefined;
  #writable: (() => void) | undefined;
  #taken = 0;
  #window = WINDOW;
  #closed = false;

  constructor(id: ExchangeId, connection: Connection) {
    this.#id = id;
    this.#connection = connection;
  }

  /** Aborted when the other side has left. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** A message of the host has come. */
  deliver(message: Message): void {
    this.#incoming.push(message);
    this.#arrived?.();
    if (message.type === DISCONNECT) this.#leave();
  }

  /** The host has taken so many bytes. */
  credit(bytes: number): void {
    this.#window += bytes;
    if (this.#window > 0) this.#writable?.();
  }

  /** The host is done with this exchange. */
  close(): void {
    this.#closed = true;
    this.#arrived?.();
    this.#leave();
  }

  /** The next message; that the other side has left, when nothing else will come. */
  async receive(): Promise<Message> {
    while (this.#incoming.length === 0) {
      if (this.#closed) return { type: DISCONNECT };
      await new Promise<void>((resolve) => (this.#arrived = resolve));
    }
    const message = this.#incoming.shift() as Message;
    this.#taken += message.body?.length ?? 0;
    if (this.#taken >= CREDIT_AT && !this.#closed) {
      const credit = Buffer.allocUnsafe(4);
      credit.writeUInt32LE(this.#taken);
      this.#connection.send(Kind.ASGI_CREDIT, this.#id.number, credit, this.#id.ours);
      this.#taken = 0;
    }
    return message;
  }

  /** Sends a message, as soon as the host has room for it. To who has left, nothing is sent. */
  async send(message: Message): Promise<void> {
    const body = message.body;
    if (body === undefined || body.length <= PIECE) return await this.#send(message);
    for (let start = 0; start < body.length; start += PIECE) {
      const more = start + PIECE < body.length || Boolean(message.more_body);
      await this.#send({ ...message, body: body.subarray(start, start + PIECE), more_body: more });
    }
  }

  /** Nothing more comes from this side. */
  finish(error: ErrorBody | null = null): void {
    if (!this.#closed) {
      this.#closed = true;
      this.#connection.sendMap(Kind.ASGI_CLOSE, this.#id.number, { error }, this.#id.ours);
    }
    this.#leave();
  }

  async #send(message: Message): Promise<void> {
    const size = message.body?.length ?? 0;
    while (size > 0 && this.#window <= 0 && !this.#closed) {
      await new Promise<void>((resolve) => (this.#writable = resolve));
    }
    if (this.#closed) return;
    this.#window -= size;
    this.#connection.sendMap(Kind.ASGI_MESSAGE, this.#id.number, message, this.#id.ours);
  }

  #leave(): void {
    this.#gone.abort();
    // Who waits for room goes on: what is sent to somebody who has left only has to end.
    this.#window = Math.max(this.#window, WINDOW);
    this.#writable?.();
  }
}
