// What runs stream of checkpoints, tasks and interrupts, and how graphs are drawn, as the API spells it.

import { afterAll, beforeAll, expect, test } from "vitest";

import { FakeHost } from "./host.ts";

const host = new FakeHost();

beforeAll(async () => {
  const graphs = ["boom", "counter", "fanout", "hitlWithin", "jumper", "slowWithin"];
  await host.load(Object.fromEntries(graphs.map((name) => [name, `./graphs.ts:${name}`])));
});
afterAll(() => host.stop());

test("an interrupt says that it has no schema, and comes with the values around it", async () => {
  const modes = ["values", "updates", "tasks"];
  const { events, end } = await host.run("hitlWithin", { input: { topic: "x" }, modes, subgraphs: true });
  const asked = { id: expect.any(String), value: expect.anything(), response_schema: null };
  const within = events.find(([name, data]) => name.startsWith("values|") && data.__interrupt__);
  expect(within?.[1]).toMatchObject({ topic: "x", __interrupt__: [asked] });
  for (const mode of modes) {
    const told = events.filter(([name]) => name === mode || name.startsWith(`${mode}|`)).map(([, data]) => data);
    expect(told.flatMap((data) => data.__interrupt__ ?? data.interrupts ?? []), mode).toContainEqual(asked);
  }
  expect(end.result.__interrupt__).toEqual([asked]);
  expect(Object.values(end.interrupts).flat()).toEqual([{ id: expect.any(String), value: expect.anything() }]);
});

test("checkpoints name where they are, and nothing of what LangGraph hands down", async () => {
  const modes = ["checkpoints", "debug"];
  const { events } = await host.run("hitlWithin", { thread: "t-map", input: { topic: "x" }, modes, subgraphs: true });
  const [name, first] = events.find(([name]) => name.startsWith("checkpoints|")) as [string, any];
  const ns = name.slice("checkpoints|".length);
  const { checkpoint_map, checkpoint_id, ...configurable } = first.config.configurable;
  expect(checkpoint_map).toEqual({ "": expect.any(String), [ns]: checkpoint_id });
  expect(Object.keys(configurable).filter((key) => key.startsWith("__"))).toEqual([]);
  expect(Object.keys(first.config)).toEqual(["configurable"]);
  expect(first.tasks).toEqual([{ id: expect.any(String), name: "__start__", interrupts: [], state: null }]);
  const around = events.filter(([name, data]) => name === "debug" && data.type === "checkpoint").at(-1)?.[1].payload;
  expect(around.tasks[0].checkpoint).toEqual({ thread_id: "t-map", checkpoint_ns: ns });
  expect(around.tasks[0]).not.toHaveProperty("state");
});

test("a task that begins asks nothing yet, and one that failed says why", async () => {
  const { events } = await host.run("boom", { input: {}, modes: ["tasks"] });
  const [begun, ended] = events.slice(-2).map(([, data]) => data);
  expect(begun).toEqual(expect.not.objectContaining({ interrupts: expect.anything() }));
  expect(ended).toMatchObject({ error: { error: "RangeError", message: "boom at 1" }, interrupts: [] });
});

test("checkpoints of subgraphs say which node they are of", async () => {
  const thread = "t-within-metadata";
  await host.run("hitlWithin", { thread, input: { topic: "x" } });
  const state = await host.call("state_get", "hitlWithin", { config: { configurable: { thread_id: thread } }, subgraphs: true });
  const [{ name, state: within }] = state.tasks;
  const ns = within.checkpoint.checkpoint_ns;
  expect(within.metadata).toMatchObject({ langgraph_node: name, checkpoint_ns: ns, checkpoint_map: { "": expect.any(String) } });
  expect(within.parent_checkpoint.checkpoint_map[ns]).toBe(within.parent_checkpoint.checkpoint_id);
});

test("drawings go from the start to the end, outside before inside", async () => {
  const drawn = async (graph: string, xray = false) => {
    const { nodes, edges } = await host.call("draw", graph, { xray });
    return [nodes.map(({ id }: any) => id), edges.map(({ source, target }: any) => `${source} ${target}`)];
  };
  expect(await drawn("counter")).toEqual([
    ["__start__", "add", "double", "__end__"],
    ["__start__ add", "add double", "double __end__"],
  ]);
  const [nodes, edges] = await drawn("slowWithin", true);
  expect(nodes.findIndex((id: string) => id.includes(":"))).toBeGreaterThan(nodes.indexOf("__end__"));
  expect(edges[0]).toMatch(/^__start__ /);
  expect((await drawn("jumper"))[1]).toContainEqual(expect.stringMatching(/ __end__$/));
});
