// What the host asks of graphs outside of runs.

import { afterAll, beforeAll, expect, test } from "vitest";

import { FakeHost } from "./host.ts";

const host = new FakeHost();

beforeAll(async () => {
  const graphs = ["counter", "hitl", "hitlWithin", "streamer", "streamerWithin", "slowWithin", "jumper"];
  const paths = Object.fromEntries(graphs.map((name) => [name, `./graphs.ts:${name}`]));
  const store_index = { embed: "./embed.ts:embed", dims: 2, fields: ["text"] };
  await host.load({ ...paths, zod: "./schemas.ts:zod", state: "./schemas.ts:state", dated: "./schemas.ts:dated", ofTasks: "./stubborn.ts:ofTasks" }, { store_index });
});
afterAll(() => host.stop());

const on = (thread: string, more = {}) => ({ configurable: { thread_id: thread, ...more } });

test("history is newest first and can be looked through", async () => {
  await host.run("counter", { thread: "t-history", input: { count: 1, log: [] } });
  const all = await host.call("state_history", "counter", { config: on("t-history"), limit: 10 });
  expect(all.map((it: any) => it.values.count)).toEqual([4, 2, 1, 0]);
  const [, second] = all;
  const rest = await host.call("state_history", "counter", { config: on("t-history"), limit: 1, before: second.checkpoint_id });
  expect(rest).toEqual([all[2]]);
  const filtered = await host.call("state_history", "counter", { config: on("t-history"), filter: { step: 1 } });
  expect(filtered).toEqual([second]);
  const named = await host.call("state_get", "counter", { config: on("t-history", { checkpoint_id: second.checkpoint_id }) });
  expect(named.checkpoint).toEqual({ thread_id: "t-history", checkpoint_id: second.checkpoint_id });
});

test("the state of subgraphs is shown with the tasks", async () => {
  await host.run("hitlWithin", { thread: "t-nested", input: { topic: "x" } });
  const flat = await host.call("state_get", "hitlWithin", { config: on("t-nested") });
  expect(flat.tasks[0]).toMatchObject({ state: null, checkpoint: { checkpoint_ns: expect.stringMatching(/^child:/) } });
  const deep = await host.call("state_get", "hitlWithin", { config: on("t-nested"), subgraphs: true });
  expect(deep.tasks[0].state).toMatchObject({ next: ["review"], interrupts: [{ value: "within?" }] });
});

test("an update is written as if a node had said it", async () => {
  await host.run("hitl", { thread: "t-update", input: { topic: "x" } });
  const args = { config: on("t-update"), values: { answer: "no" }, as_node: "review" };
  const changed = await host.call("state_update", "hitl", args);
  expect(changed).toMatchObject({ next: true, state: { values: { answer: "no" }, next: ["finish"] }, interrupts: {} });
  expect(changed.config.configurable.checkpoint_id).toBe(changed.state.checkpoint_id);
  const wrong = host.call("state_update", "hitl", { ...args, as_node: "nobody" });
  await expect(wrong).rejects.toMatchObject({ status: 400, message: expect.stringContaining('"nobody" does not exist') });
});

test("supersteps are replayed", async () => {
  const supersteps = [
    { updates: [{ values: { count: 1, log: ["in"] }, as_node: "__input__" }] },
    { updates: [{ values: { count: 1, log: ["in"] }, as_node: "__start__" }] },
    { updates: [{ values: { count: 2, log: ["add"] }, as_node: "add" }] },
  ];
  const changed = await host.call("state_replay", "counter", { config: on("t-replay"), supersteps });
  expect(changed.state).toMatchObject({ values: { count: 3, log: ["in", "add"] }, next: ["double"] });
});

test("a thread of another language is the caller's mistake", async () => {
  host.checkpoints.put({
    thread: "t-python", ns: "", id: "1", parent: null, metadata: Buffer.from("{}"), blobs: [],
    checkpoint: Buffer.from('{"v":4,"channel_values":{},"channel_versions":{}}'),
  });
  const read = host.call("state_get", "counter", { config: on("t-python") });
  await expect(read).rejects.toMatchObject({ status: 400, error: "ForeignThread" });
});

test("schemas come from Zod, from state schemas, and from the names of channels", async () => {
  const zod = await host.call("schemas", "zod", {});
  expect(zod).toMatchObject({ graph_id: "zod", config_schema: { properties: { tone: { type: "string" } } } });
  expect(zod.context_schema).toEqual(zod.config_schema);
  expect(zod.state_schema).toMatchObject({ properties: { topic: { type: "string" }, count: { type: "number" } } });
  expect(zod.input_schema).toMatchObject({ title: "zodInput", properties: { topic: { type: "string" } } });
  expect(Object.keys(zod.output_schema.properties)).toEqual(["count"]);
  const state = await host.call("schemas", "state", {});
  expect(state.state_schema).toMatchObject({ type: "object", properties: { topic: { type: "string" } }, required: ["topic"] });
  const plain = await host.call("schemas", "streamer", {});
  expect(plain.state_schema.properties).toEqual({
    messages: { title: "Messages", type: "array", items: { type: "object" }, langgraph_type: "messages" },
    text: { title: "Text" },
  });
  expect(plain.context_schema).toBeNull();
});

test("a field without a schema leaves the names of the others", async () => {
  const { state_schema: state } = await host.call("schemas", "dated", {});
  expect(state.properties).toEqual({ topic: { title: "Topic" }, due: { title: "Due" } });
});

test("functional graphs are drawn", async () => {
  const { nodes, edges } = await host.call("draw", "ofTasks", {});
  for (const id of [...nodes.map((node: any) => node.id), ...edges.map((edge: any) => edge.source)]) expect(id).toBeTypeOf("string");
});

test("graphs are drawn", async () => {
  const { nodes, edges } = await host.call("draw", "streamerWithin", {});
  expect(nodes.map((it: any) => it.id)).toEqual(["__start__", "child", "__end__"]);
  expect(edges).toEqual([{ source: "__start__", target: "child" }, { source: "child", target: "__end__" }]);
  const within = await host.call("draw", "slowWithin", { xray: true });
  expect(within.nodes.map((it: any) => it.id)).toEqual(["__start__", "__end__", "child:first", "child:wait"]);
  const conditional = await host.call("draw", "jumper", {});
  expect(conditional.edges).toContainEqual({ source: "jump", target: "land", conditional: true });
  expect(Object.keys(await host.call("subgraphs", "streamerWithin", { recurse: true }))).toEqual(["child"]);
});

test("texts are embedded", async () => {
  expect(await host.call("embed", null, { query: "ab" })).toEqual([[2, 1]]);
  expect(await host.call("embed", null, { value: { text: "abc", other: "x" } })).toEqual([[3, 1]]);
  expect(await host.call("embed", null, { value: { list: [{ a: "x" }, { a: "yy" }] }, fields: ["list[*].a"] })).toEqual([
    [1, 1],
    [2, 1],
  ]);
});

test("an operation that does not exist is named", async () => {
  await expect(host.call("sing", "counter", {})).rejects.toMatchObject({ message: "no operation `sing`" });
});
