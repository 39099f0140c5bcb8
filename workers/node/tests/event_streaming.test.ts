// Event streaming: runs that say finished protocol events.

import { afterAll, beforeAll, expect, test } from "vitest";

import { FakeHost } from "./host.ts";

const host = new FakeHost();
const config = { configurable: { __event_streaming_v2: true } };

beforeAll(async () => {
  const graphs = ["counter", "streamerWithin", "hitlWithin", "twoQuestions", "custom", "boom", "slow"];
  await host.load(Object.fromEntries(graphs.map((name) => [name, `./graphs.ts:${name}`])));
});
afterAll(() => host.stop());

/** The events of a method, which each event's name tells with its namespace. */
function of(events: [string, any][], method: string): [name: string, data: any][] {
  for (const [name, event] of events) {
    expect(name.split("||")[0].split("|")).toEqual([event.method, ...event.params.namespace]);
    expect(Object.keys(event).slice(0, 2)).toEqual(["type", "method"]);
  }
  return events.filter(([, event]) => event.method === method).map(([name, event]) => [name, event.params.data]);
}

test("a subgraph streams its message and its lifecycle", async () => {
  const { events, end } = await host.run("streamerWithin", { config, input: { messages: [], text: "ab" } });
  const messages = of(events, "messages");
  const kinds = messages.map(([, data]) => data.event);
  expect(kinds.slice(0, 2)).toEqual(["message-start", "content-block-start"]);
  expect(kinds.slice(-2)).toEqual(["content-block-finish", "message-finish"]);
  expect(new Set(messages.map(([, { id, run_id }]) => `${id} ${run_id}`)).size).toBe(1);
  expect(messages[0][1].id).toBeTruthy();
  const [space] = new Set(messages.map(([name]) => name.slice("messages|".length)));
  expect(space).toMatch(/^child:[0-9a-f-]+$/);
  expect(of(events, "lifecycle")).toMatchObject([
    [`lifecycle|${space}`, { event: "started", graph_name: "child" }],
    [`lifecycle|${space}`, { event: "completed", graph_name: "child" }],
  ]);
  const said = of(events, "values").at(-1)?.[1].messages.at(-1);
  expect(said).toMatchObject({ type: "ai", content: [{ type: "text", text: "ab" }] });
  expect(said).not.toHaveProperty("additional_kwargs");
  expect(end.values.messages.at(-1)).toHaveProperty("additional_kwargs");
});

test("interrupts are asked once and values do not show them", async () => {
  const two = await host.run("twoQuestions", { config, input: { answers: [] } });
  const asked = of(two.events, "input.requested").map(([, data]) => data);
  expect(asked.map((it) => it.payload)).toEqual(["a", "b"]);
  const open = Object.values<any[]>(two.end.interrupts).flat().map((it) => it.id);
  expect(asked.map((it) => it.interrupt_id)).toEqual(open);
  expect(of(two.events, "values").every(([, data]) => !("__interrupt__" in data))).toBe(true);
  expect(two.end.result.__interrupt__.map((it: any) => it.value)).toEqual(["a", "b"]);
  expect(two.end.next).toBe(true);
  const within = await host.run("hitlWithin", { config, input: {} });
  const [[name, { payload }], ...more] = of(within.events, "input.requested");
  expect([name.split("|").length, payload, more]).toEqual([2, "within?", []]);
  expect(of(within.events, "lifecycle").map(([, data]) => data.event)).toEqual(["started", "interrupted"]);
});

test("updates, tasks and checkpoints are told", async () => {
  const { events, end } = await host.run("counter", { config, input: { count: 1, log: [] } });
  expect(of(events, "updates").map(([, data]) => data)).toEqual([
    { node: "add", values: { count: 1, log: ["add"] } },
    { node: "double", values: { count: 2, log: ["double"] } },
  ]);
  expect(of(events, "checkpoints").at(-1)?.[1]).toMatchObject({ step: 2, source: "loop", parent_id: expect.any(String) });
  expect(of(events, "tasks").map(([, data]) => data.name)).toEqual(["add", "add", "double", "double"]);
  expect(end).toMatchObject({ status: "success", result: null, values: { count: 4 } });
});

test("custom events are told, and a failure is the end of the run", async () => {
  const { events } = await host.run("custom", { config, input: { n: 1 } });
  expect(of(events, "custom")).toEqual([["custom", { payload: { i: 0 } }]]);
  const failed = await host.run("boom", { config, input: {} });
  expect(failed.end).toMatchObject({ status: "error", error: { message: "boom at 1" } });
});

test("a run that is stopped is interrupted", async () => {
  const view = host.startRun("slow", { config, input: {} });
  await view.until(6);
  host.cancel(view);
  expect(await view.ended).toMatchObject({ status: "cancelled", next: true });
});
