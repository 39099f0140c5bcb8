// The part of msgpack that the worker protocol uses. Plain JavaScript, since the control thread has no TypeScript.
//
// Written here and not taken from a package: the worker may install nothing into the project it serves.
// @ts-check

const INITIAL_SIZE = 1024;
const MAX_UINT32 = 0xffff_ffff;

/** Writes values behind each other into a buffer that grows. */
class Writer {
  #buffer = Buffer.allocUnsafe(INITIAL_SIZE);
  #at = 0;

  finished() {
    return this.#buffer.subarray(0, this.#at);
  }

  /** @param {unknown} value */
  value(value) {
    switch (typeof value) {
      case "string":
        return this.#text(value);
      case "number":
        return Number.isSafeInteger(value) ? this.#integer(value) : this.#float(value);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "bigint":
        return this.#bigint(value);
      case "undefined":
        return this.#byte(0xc0);
      case "object":
        if (value === null) return this.#byte(0xc0);
        if (value instanceof Uint8Array) return this.#binary(value);
        if (Array.isArray(value)) return this.#list(value);
        return this.#map(value);
      default:
        throw new TypeError(`msgpack has no form for a ${typeof value}`);
    }
  }

  /** @param {number} size */
  #room(size) {
    const needed = this.#at + size;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }

  /** @param {number} byte */
  #byte(byte) {
    this.#room(1);
    this.#buffer[this.#at++] = byte;
  }

  /**
   * A tag and a length behind it, in the shortest form that there is.
   *
   * @param {number} length
   * @param {number} fix the tag of the form that holds the length itself
   * @param {number} fixLimit lengths from here on do not fit into that form
   * @param {(number | undefined)[]} tags those of the forms with 8, 16 and 32 bits
   */
  #header(length, fix, fixLimit, [tag8, tag16, tag32]) {
    this.#room(5);
    if (length < fixLimit) {
      this.#buffer[this.#at++] = fix | length;
    } else if (length <= 0xff && tag8 !== undefined) {
      this.#buffer[this.#at++] = tag8;
      this.#buffer[this.#at++] = length;
    } else if (length <= 0xffff && tag16 !== undefined) {
      this.#buffer[this.#at++] = tag16;
      this.#at = this.#buffer.writeUInt16BE(length, this.#at);
    } else {
      this.#buffer[this.#at++] = /** @type {number} */ (tag32);
      this.#at = this.#buffer.writeUInt32BE(length, this.#at);
    }
  }

  /** @param {string} text */
  #text(text) {
    const length = Buffer.byteLength(text);
    this.#header(length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
    this.#room(length);
    this.#at += this.#buffer.write(text, this.#at);
  }

  /** @param {Uint8Array} bytes */
  #binary(bytes) {
    this.#header(bytes.length, 0, 0, [0xc4, 0xc5, 0xc6]);
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** @param {unknown[]} items */
  #list(items) {
    this.#header(items.length, 0x90, 16, [undefined, 0xdc, 0xdd]);
    for (const item of items) this.value(item);
  }

  /** @param {object} map */
  #map(map) {
    const entries = Object.entries(map).filter(([, value]) => value !== undefined);
    this.#header(entries.length, 0x80, 16, [undefined, 0xde, 0xdf]);
    for (const [key, value] of entries) {
      this.#text(key);
      this.value(value);
    }
  }

  /** @param {number} value */
  #integer(value) {
    if (value < 0 || value > MAX_UINT32) {
      if (value >= -32 && value < 0) return this.#byte(value & 0xff);
      return this.#bigint(BigInt(value));
    }
    if (value < 0x80) return this.#byte(value);
    this.#header(value, 0, 0, [0xcc, 0xcd, 0xce]);
  }

  /** @param {bigint} value */
  #bigint(value) {
    this.#room(9);
    this.#buffer[this.#at++] = value < 0n ? 0xd3 : 0xcf;
    this.#at = value < 0n ? this.#buffer.writeBigInt64BE(value, this.#at) : this.#buffer.writeBigUInt64BE(value, this.#at);
  }

  /** @param {number} value */
  #float(value) {
    this.#room(9);
    this.#buffer[this.#at++] = 0xcb;
    this.#at = this.#buffer.writeDoubleBE(value, this.#at);
  }
}

/** Reads one value after the other. */
class Reader {
  #buffer;
  #at = 0;

  /** @param {Buffer} buffer */
  constructor(buffer) {
    this.#buffer = buffer;
  }

  get atEnd() {
    return this.#at === this.#buffer.length;
  }

  /** @returns {any} */
  value() {
    const tag = this.#buffer.readUInt8(this.#at++);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f);
    if (tag < 0xa0) return this.#list(tag & 0x0f);
    if (tag < 0xc0) return this.#text(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.#binary(this.#number(1));
      case 0xc5: return this.#binary(this.#number(2));
      case 0xc6: return this.#binary(this.#number(4));
      case 0xca: return this.#buffer.readFloatBE((this.#at += 4) - 4);
      case 0xcb: return this.#buffer.readDoubleBE((this.#at += 8) - 8);
      case 0xcc: return this.#number(1);
      case 0xcd: return this.#number(2);
      case 0xce: return this.#number(4);
      case 0xcf: return exact(this.#buffer.readBigUInt64BE((this.#at += 8) - 8));
      case 0xd0: return this.#buffer.readInt8((this.#at += 1) - 1);
      case 0xd1: return this.#buffer.readInt16BE((this.#at += 2) - 2);
      case 0xd2: return this.#buffer.readInt32BE((this.#at += 4) - 4);
      case 0xd3: return exact(this.#buffer.readBigInt64BE((this.#at += 8) - 8));
      case 0xd9: return this.#text(this.#number(1));
      case 0xda: return this.#text(this.#number(2));
      case 0xdb: return this.#text(this.#number(4));
      case 0xdc: return this.#list(this.#number(2));
      case 0xdd: return this.#list(this.#number(4));
      case 0xde: return this.#map(this.#number(2));
      case 0xdf: return this.#map(this.#number(4));
      default: throw new RangeError(`msgpack tag 0x${tag.toString(16)} is not one of the protocol`);
    }
  }

  /** @param {number} width */
  #number(width) {
    return this.#buffer.readUIntBE((this.#at += width) - width, width);
  }

  /** @param {number} length */
  #take(length) {
    if (this.#at + length > this.#buffer.length) throw new RangeError("the msgpack value is cut off");
    return this.#buffer.subarray(this.#at, (this.#at += length));
  }

  /** @param {number} length */
  #text(length) {
    return this.#take(length).toString();
  }

  /** @param {number} length */
  #binary(length) {
    return this.#take(length);
  }

  /** @param {number} length */
  #list(length) {
    const items = [];
    for (let index = 0; index < length; index += 1) items.push(this.value());
    return items;
  }

  /** @param {number} length */
  #map(length) {
    /** @type {Record<string, unknown>} */
    const map = {};
    for (let index = 0; index < length; index += 1) {
      const key = this.value();
      map[key] = this.value();
    }
    return map;
  }
}

/**
 * A whole number as a `number` where that is exact.
 *
 * @param {bigint} value
 */
function exact(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/**
 * The msgpack of a value.
 *
 * @param {unknown} value
 */
export function encode(value) {
  const writer = new Writer();
  writer.value(value);
  return writer.finished();
}

/**
 * The value of a msgpack text.
 *
 * @param {Uint8Array} bytes
 * @returns {any}
 */
export function decode(bytes) {
  const reader = new Reader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const value = reader.value();
  if (!reader.atEnd) throw new RangeError("more follows behind the msgpack value");
  return value;
}
