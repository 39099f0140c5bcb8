// Frames of the worker protocol: kinds, packing, and cutting a byte stream into frames.
// @ts-check

import { decode, encode } from "./msgpack.mjs";

/** The range of protocol versions this worker speaks. */
export const PROTOCOL = [1, 1];

export const Kind = Object.freeze({
  RUN_START: 1,
  RUN_CANCEL: 2,
  REPLY: 3,
  CALL: 5,
  PING: 6,
  PONG: 7,
  DRAIN: 8,
  LOAD: 9,
  HELLO: 10,
  READY: 11,
  EVENT: 12,
  END: 13,
  CP_PUT: 14,
  CP_WRITES: 15,
  CP_CALL: 16,
  STORE_BATCH: 17,
  LOG: 18,
  BYE: 19,
  ASGI_OPEN: 20,
  ASGI_MESSAGE: 21,
  ASGI_CREDIT: 22,
  ASGI_CLOSE: 23,
});

export const HEADER_SIZE = 13;
const MAX_BODY = 2 ** 30;
const HIGH_WORD = 2 ** 32;
/** The bit, in the high word of an id, that tells this side's requests from the host's. */
const WORKER_REQUEST = 0x8000_0000;
const MANY_EVENTS = 1 << 15;

/** The other side sent bytes that are not a frame of this protocol. */
export class ProtocolError extends Error {
  /** @override */
  name = "ProtocolError";
}

/** @param {number} kind */
export function kindName(kind) {
  return Object.entries(Kind).find(([, value]) => value === kind)?.[0] ?? String(kind);
}

/**
 * The id of a frame: a slot or request of the host, or a request of this worker.
 *
 * @typedef {{ number: number, ours: boolean }} FrameId
 */

/**
 * The beginning of a frame.
 *
 * @param {number} kind
 * @param {number} id
 * @param {number} length
 * @param {boolean} ours whether the id is one of this side's requests
 */
export function header(kind, id, length, ours = false) {
  if (length > MAX_BODY) {
    throw new ProtocolError(`a ${kindName(kind)} body of ${length} bytes exceeds the limit of ${MAX_BODY}`);
  }
  const bytes = Buffer.allocUnsafe(HEADER_SIZE);
  bytes.writeUInt32LE(length, 0);
  bytes[4] = kind;
  bytes.writeUInt32LE(id % HIGH_WORD, 5);
  const high = Math.floor(id / HIGH_WORD);
  bytes.writeUInt32LE(ours ? high + WORKER_REQUEST : high, 9);
  return bytes;
}

/**
 * One frame around a msgpack map.
 *
 * @param {number} kind
 * @param {number} id
 * @param {object} body
 */
export function packMap(kind, id, body) {
  const packed = encode(body);
  return Buffer.concat([header(kind, id, packed.length), packed]);
}

/**
 * The msgpack map of a frame.
 *
 * @param {Uint8Array} body
 * @returns {Record<string, any>}
 */
export function unpackMap(body) {
  const value = decode(body);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ProtocolError("expected a map");
  }
  return value;
}

/** Collects bytes as they arrive and yields the frames that are complete. */
export class FrameDecoder {
  /**
   * Chunks of a frame that is not complete yet, so that a large one is put together once.
   *
   * @type {Buffer[]}
   */
  #chunks = [];
  #size = 0;
  #needed = HEADER_SIZE;

  /**
   * Adds `data`; yields every frame completed by it.
   *
   * @param {Buffer} data
   * @returns {Generator<{ kind: number, id: FrameId, body: Buffer }>}
   */
  *feed(data) {
    this.#chunks.push(data);
    this.#size += data.length;
    if (this.#size < this.#needed) return;
    const buffer = this.#chunks.length === 1 ? data : Buffer.concat(this.#chunks, this.#size);
    let start = 0;
    this.#needed = HEADER_SIZE;
    while (buffer.length - start >= HEADER_SIZE) {
      const length = buffer.readUInt32LE(start);
      if (length > MAX_BODY) throw new ProtocolError(`a frame of ${length} bytes exceeds the limit of ${MAX_BODY}`);
      const stop = start + HEADER_SIZE + length;
      if (stop > buffer.length) {
        this.#needed = HEADER_SIZE + length;
        break;
      }
      const high = buffer.readUInt32LE(start + 9);
      const ours = high >= WORKER_REQUEST;
      const number = buffer.readUInt32LE(start + 5) + (ours ? high - WORKER_REQUEST : high) * HIGH_WORD;
      yield { kind: buffer[start + 4], id: { number, ours }, body: buffer.subarray(start + HEADER_SIZE, stop) };
      start = stop;
    }
    this.#size = buffer.length - start;
    this.#chunks = this.#size > 0 ? [buffer.subarray(start)] : [];
  }
}

/**
 * The part of an event, or of many, that does not change between events of one name.
 *
 * @param {string} name
 * @param {boolean} many whether the data are a list of the data of so many events
 */
export function eventPrefix(name, many = false) {
  const raw = Buffer.from(name);
  const length = Buffer.allocUnsafe(2);
  length.writeUInt16LE(raw.length | (many ? MANY_EVENTS : 0));
  return Buffer.concat([length, raw]);
}
