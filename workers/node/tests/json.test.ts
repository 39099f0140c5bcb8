// What values look like in JSON.

import { Document } from "@langchain/core/documents";
import { AIMessage, AIMessageChunk, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { expect, test } from "vitest";

import { streamedMessage, toJsonText } from "../src/json.ts";

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

test("what contains itself has no form", () => {
  const value: Record<string, unknown> = {};
  value.self = value;
  expect(() => toJsonText(value)).toThrow(TypeError);
});
