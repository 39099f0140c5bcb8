// Spans of the user's code in the trace of their run.

import { afterAll, beforeAll, expect, test } from "vitest";

import { FakeHost } from "./host.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";
const host = new FakeHost();

beforeAll(async () => {
  await host.load({ traced: "./traced.ts:traced" });
});
afterAll(() => host.stop());

async function seen(metadata?: object, modes = ["values"]): Promise<object> {
  return (await host.run("traced", { input: {}, modes, config: metadata && { metadata } })).end.values.seen;
}

test("spans begin below the one that the run's metadata name", async () => {
  const parent = { traceId: TRACE, spanId: SPAN, traceFlags: 1, isRemote: true };
  const traceparent = `00-${TRACE}-${SPAN}-01`;
  expect(await seen({ traceparent, tracestate: "vendor=1" })).toEqual({ ...parent, traceState: "vendor=1" });
  expect(await seen({ traceparent })).toEqual(parent);
  expect(await seen({ traceparent }, ["events"])).toEqual(parent);
});

test("runs that go on at the same time each have their own trace", async () => {
  const traces = Array.from({ length: 8 }, (_, at) => String(at).padStart(32, "a"));
  const all = await Promise.all(traces.map((trace) => seen({ traceparent: `00-${trace}-${SPAN}-00` })));
  expect(all).toEqual(traces.map((traceId) => ({ traceId, spanId: SPAN, traceFlags: 0, isRemote: true })));
});

test.each([undefined, {}, { traceparent: 1 }, { traceparent: "odd" }])("%j names no trace", async (metadata) => {
  expect(await seen(metadata)).toEqual({});
});
