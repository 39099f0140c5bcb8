// What values look like in JSON.

import { Document } from "@langchain/core/documents";
import { AIMessage, AIMessageChunk, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { expect, test } from "vitest";

import { compactMessage, streamedMessage, toJsonText } from "../src/json.ts";

const json = (value: unknown) => JSON.parse(toJsonText(value));

test("messages are spelled as the API spells them", () => {
  expect(json(new HumanMessage({ content: "hi", id: "1" }))).toEqual({
    type: "human", content: "hi", id: "1", name: null, additional_kwargs: {}, response_metadata: {},
  });
  const calls = [{ name: "f", args: { x: 1 }, id: "c", type: "tool_call" as const }];
  expect(json({ messages: [new AIMessage({ content: "", tool_calls: calls })] }).messages[0]).toMatchObject({
    type: "ai", name: null, usage_metadata: null, tool_calls: calls,
  });
  expect(json(new ToolMessage({ content: "ok", tool_call_id: "c" }))).toMatchObject({ type: "tool", tool_call_id: "c" });
  expect(json(new AIMessageChunk("a")).type).toBe("ai");
  expect(streamedMessage(new AIMessageChunk("a"))).toMatchObject({ type: "AIMessageChunk", content: "a" });
});

test("other objects of LangChain are what they were made of", () => {
  const document = new Document({ pageContent: "text", metadata: { a: 1 } });
  expect(json({ document })).toEqual({ document: { pageContent: "text", metadata: { a: 1 } } });
});

test.each([
  [new Map<string, unknown>([["a", new Set([1])]]), { a: [1] }],
  [new Date(0), "1970-01-01T00:00:00.000Z"],
  [Buffer.from("abc"), "YWJj"],
  [new Uint8Array([1, 2]), "AQI="],
  [new RangeError("no"), { error: "RangeError", message: "no" }],
  [{ a: 12n, b: 2n ** 70n }, { a: 12, b: "1180591620717411303424" }],
  [{ a: Number.NaN, b: undefined, c: () => 1, d: Symbol("s") }, { a: null }],
  [undefined, null],
  ["a\0b", "a\ufffdb"],
  ["a\ud800b", "a\ufffdb"],
  ["\\u0000", "\\u0000"],
  ["\\\0", "\\\ufffd"],
  ["😀", "😀"],
])("values without a form of their own get one (%#)", (value, expected) => {
  expect(json(value)).toEqual(expected);
});

test("what contains itself is cut short where it begins again", () => {
  const value: Record<string, unknown> = { x: 1, twice: [{ y: 2n }] };
  value.self = value;
  value.again = value.twice;
  value.map = new Map([["of", value]]);
  const expected = { x: 1, twice: [{ y: 2 }], self: "[Circular]", again: [{ y: 2 }], map: { of: "[Circular]" } };
  expect(json(value)).toEqual(expected);
  const around = new Map<string, unknown>([["date", new Date(0)]]);
  around.set("self", [around]);
  expect(json(around)).toEqual({ date: "1970-01-01T00:00:00.000Z", self: ["[Circular]"] });
});

test("a message with something that contains itself is a message", () => {
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  const message = new AIMessage({ content: "hi", response_metadata: { circle } });
  // What stands in its place is up to LangChain.
  const expected = { type: "ai", content: "hi", response_metadata: { circle: { self: expect.anything() } } };
  expect(json([message])).toMatchObject([expected]);
  expect(JSON.parse(toJsonText([message], compactMessage))).toEqual([expected]);
});

test("what throws when it is asked for its JSON says so in its place", () => {
  const thrower = { toJSON() { throw new Error("no"); } };
  const getter = { get x() { throw new Error("no"); } };
  const said = expect.stringContaining("unable to serialize");
  expect(json({ thrower, getter, fine: [undefined, () => 1, { a: undefined }] })).toEqual({
    thrower: said, getter: { x: said }, fine: [null, null, {}],
  });
  expect(json(thrower)).toEqual(said);
});
