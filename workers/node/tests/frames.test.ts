// Frames and msgpack.

import { expect, test } from "vitest";

import { FrameDecoder, Kind, header, packMap, unpackMap } from "../src/frames.mjs";
import { decode, encode } from "../src/msgpack.mjs";

test.each([
  null, true, false, 0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, Number.MAX_SAFE_INTEGER,
  -1, -32, -33, -32768, Number.MIN_SAFE_INTEGER, 0.5, -1.25, "", "a", "é".repeat(20), "x".repeat(70_000),
  [], [1, [2, ["three"]]], {}, { a: 1, b: { c: null } }, Array(20).fill(7), Array(70_000).fill(null),
  Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`key ${index}`, index])),
])("msgpack keeps what it is given (%#)", (value) => {
  expect(decode(encode(value))).toEqual(value);
});

test("msgpack has bytes, large numbers, and no undefined", () => {
  for (const size of [0, 300, 70_000]) expect(decode(encode(Buffer.alloc(size, 7)))).toEqual(Buffer.alloc(size, 7));
  expect(decode(encode(2n ** 63n))).toBe(2n ** 63n);
  expect(decode(encode(-(2n ** 62n)))).toBe(-(2n ** 62n));
  expect(encode({ a: undefined, b: 1 })).toEqual(Buffer.from([0x81, 0xa1, 0x62, 1]));
  expect(encode("é")).toEqual(Buffer.from([0xa2, 0xc3, 0xa9]));
});

test("msgpack that is cut off or goes on is no value", () => {
  expect(() => decode(Buffer.from([0xa5, 0x61]))).toThrow(RangeError);
  expect(() => decode(Buffer.from([1, 2]))).toThrow("more follows");
  expect(() => decode(Buffer.from([0xc1]))).toThrow("0xc1");
  expect(() => encode(() => {})).toThrow("function");
});

test("frames are found however their bytes arrive", () => {
  const wire = Buffer.concat([
    packMap(Kind.RUN_CANCEL, 7, { reason: "x" }),
    header(Kind.REPLY, 5, 3, true),
    Buffer.from("abc"),
    packMap(Kind.CALL, 2 ** 40, { op: "y".repeat(300) }),
  ]);
  for (const size of [1, 3, 13, 100, wire.length]) {
    const decoder = new FrameDecoder();
    const found = [];
    for (let at = 0; at < wire.length; at += size) found.push(...decoder.feed(wire.subarray(at, at + size)));
    expect(found.map(({ kind, id }) => [kind, id])).toEqual([
      [Kind.RUN_CANCEL, { number: 7, ours: false }],
      [Kind.REPLY, { number: 5, ours: true }],
      [Kind.CALL, { number: 2 ** 40, ours: false }],
    ]);
    expect(unpackMap(found[0].body)).toEqual({ reason: "x" });
    expect(found[1].body.toString()).toBe("abc");
  }
});

test("a frame beyond the limit is refused before it is there", () => {
  const huge = Buffer.alloc(13);
  huge.writeUInt32LE(2 ** 30 + 1);
  expect(() => [...new FrameDecoder().feed(huge)]).toThrow("exceeds the limit");
  expect(() => header(Kind.END, 1, 2 ** 30 + 1)).toThrow("a END body");
  expect(() => unpackMap(encode([1]))).toThrow("expected a map");
});
