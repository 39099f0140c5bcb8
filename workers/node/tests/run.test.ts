// Runs, from their start to their end.

import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { FakeHost, names } from "./host.ts";

const GRAPHS = [
  "counter", "named", "ownCheckpointer", "streamer", "streamerWithin", "hitl", "hitlWithin", "twoQuestions", "boom", "custom",
  "withContext", "storer", "fanout", "jumper", "big", "printer",
  "dropped", "droppedBesideQuestion", "circular", "changingNothing",
];
const host = new FakeHost();

beforeAll(async () => {
  await host.load(Object.fromEntries(GRAPHS.map((name) => [name, `./graphs.ts:${name}`])));
});
afterAll(() => host.stop());

test("a run streams its values and ends with the state", async () => {
  const { events, end } = await host.run("counter", { input: { count: 1, log: [] } });
  expect(events.map(([, data]) => data.count)).toEqual([1, 2, 4]);
  expect(end).toMatchObject({ status: "success", result: null, next: false, values: { count: 4, log: ["add", "double"] } });
  expect(end.state).toMatchObject({ values: end.values, next: [], tasks: [], metadata: { source: "loop", step: 2 } });
});

test("what a run says of the state at its end is what reading it back says", async () => {
  const thread = "t-state";
  const { end } = await host.run("counter", { thread, input: { count: 1, log: [] } });
  const read = await host.call("state_get", "counter", { config: { configurable: { thread_id: thread, checkpoint_ns: "" } } });
  expect(end.state).toEqual(read);
});

test("a thread goes on with its values", async () => {
  await host.run("counter", { thread: "t-on", input: { count: 1, log: [] } });
  const { end } = await host.run("counter", { thread: "t-on", input: { count: 1, log: [] } });
  expect(end.values.count).toBe(12);
});

test.each(["sync", "async", "exit"])("with durability %s everything is kept before the end", async (durability) => {
  const thread = `t-${durability}`;
  await host.run("counter", { thread, durability, input: { count: 1, log: [] } });
  const kept = [...host.checkpoints.rows.values()].filter((row) => row.thread === thread);
  expect(kept.length).toBe(durability === "exit" ? 1 : 4);
});

test("an interrupt is told, kept, and answered", async () => {
  const asked = await host.run("hitl", { thread: "t-hitl", input: { topic: "cats" }, modes: ["updates", "values"] });
  const question = { question: "approve?", draft: "draft about cats" };
  expect(asked.end.result).toMatchObject({ topic: "cats", __interrupt__: [{ value: question }] });
  expect(asked.end).toMatchObject({ status: "success", next: true, state: { next: ["review"] } });
  expect(Object.values(asked.end.interrupts)).toEqual([[{ id: expect.any(String), value: question }]]);
  expect(asked.events.at(-1)).toMatchObject(["values", { topic: "cats", __interrupt__: [{ value: question }] }]);
  const answered = await host.run("hitl", { thread: "t-hitl", command: { resume: "yes" } });
  expect(answered.end.values).toMatchObject({ answer: "yes", done: true });
});

test("interrupts of subgraphs and of several nodes are answered by their ids", async () => {
  await host.run("hitlWithin", { thread: "t-within", input: { topic: "x" } });
  expect((await host.run("hitlWithin", { thread: "t-within", command: { resume: 1 } })).end.values.answer).toBe(1);
  const asked = await host.run("twoQuestions", { thread: "t-two", input: { answers: [] } });
  const ids: [string, string][] = asked.end.result.__interrupt__.map((it: any) => [it.value, it.id]);
  const resume = Object.fromEntries(ids.map(([value, id]) => [id, value.toUpperCase()]));
  const { end } = await host.run("twoQuestions", { thread: "t-two", command: { resume } });
  expect(end.values.answers.sort()).toEqual(["A", "B"]);
});

test("an interrupt that is answered is open no more while others are", async () => {
  const thread = "t-one-of-two";
  const asked = await host.run("twoQuestions", { thread, input: { answers: [] } });
  const [one, { id, value }] = asked.end.result.__interrupt__;
  const other = { id, value };
  const { end } = await host.run("twoQuestions", { thread, command: { resume: { [one.id]: "A" } } });
  expect(Object.values(end.interrupts)).toEqual([[other]]);
  const config = { configurable: { thread_id: thread, checkpoint_ns: "" } };
  for (const state of [end.state, await host.call("state_get", "twoQuestions", { config })]) {
    expect(state.interrupts).toEqual([other]);
    const answered = state.tasks.find((task: any) => task.result !== null);
    // What a task asked stays with it, as history shows it.
    expect(answered).toMatchObject({ result: { answers: ["A"] }, interrupts: [{ id: one.id, value: one.value }] });
  }
});

test("a node that asks again is next until it is done, whatever it changes", async () => {
  const thread = "t-again-asked";
  const asked = await host.run("changingNothing", { thread, input: { answers: ["in"] } });
  const ids = asked.end.result.__interrupt__.map((it: any) => it.id);
  const all = Object.fromEntries(ids.map((id: string) => [id, 1]));
  const again = await host.run("changingNothing", { thread, command: { resume: all } });
  expect(again.end).toMatchObject({ next: true, state: { next: ["one", "other"] } });
  const open: any[][] = Object.values(again.end.interrupts);
  expect(open.flat().map((it) => it.value)).toEqual(["second", "second"]);
  const { end } = await host.run("changingNothing", { thread, command: { resume: { [open[0][0].id]: 1 } } });
  expect(Object.values(end.interrupts)).toContainEqual(open[1]);
  expect(end.next).toBe(true);
  expect(end.state.next).toContain("other");
  const done = await host.run("changingNothing", { thread, command: { resume: 1 } });
  expect(done.end).toMatchObject({ status: "success", next: false, values: { answers: ["in", "out"] } });
});

test("a run pauses before and after nodes", async () => {
  const before = await host.run("counter", { thread: "t-pause", input: { count: 1, log: [] }, before: ["double"] });
  expect(before.end).toMatchObject({ status: "success", next: true, state: { next: ["double"] }, values: { count: 2 } });
  expect((await host.run("counter", { thread: "t-pause" })).end).toMatchObject({ next: false, values: { count: 4 } });
  const after = await host.run("counter", { input: { count: 1, log: [] }, after: ["*"] });
  expect(after.end).toMatchObject({ next: true, state: { next: ["double"] } });
});

test("nobody is warned of how many go on at once", async () => {
  const items = Array.from({ length: 50 }, (_, at) => `item ${at}`);
  const { end } = await host.run("fanout", { input: { items } });
  expect(end.values.results).toHaveLength(50);
  await host.run("printer", { input: {} });
  // What was written before it is there, too.
  await vi.waitFor(() => expect(host.output).toContain("an error line"), { timeout: 60_000 });
  expect(host.output).not.toContain("MaxListenersExceededWarning");
});

test("commands go to nodes and change the state", async () => {
  const { end } = await host.run("counter", { command: { goto: "double", update: { count: 5, log: ["told"] } } });
  expect(end.values).toEqual({ count: 10, log: ["told", "double"] });
  expect((await host.run("jumper", { input: {} })).end.values).toEqual({ n: 7, x: 8 });
  const send = { goto: { node: "worker", input: { item: "a" } } };
  expect((await host.run("fanout", { command: send })).end.values.results).toEqual(["A"]);
  const unknown = await host.run("counter", { command: { resume_all: 1 } });
  expect(unknown.end.error.message).toContain("`resume_all`");
  const nothing = await host.run("hitl", { command: { resume: 1 } });
  expect(nothing.end.error.message).toContain("nothing to resume");
});

test("messages are streamed in both forms", async () => {
  const input = { messages: [{ role: "user", content: "hi" }], text: "ab" };
  const tuples = await host.run("streamer", { input, modes: ["messages-tuple"] });
  expect(tuples.events.map(([name, [message]]) => [name, message.type, message.content])).toEqual([
    ["messages", "AIMessageChunk", "a"],
    ["messages", "AIMessageChunk", "b"],
  ]);
  const grown = await host.run("streamer", { input, modes: ["messages"] });
  expect(names(grown.events)).toEqual(["messages/metadata", "messages/partial", "messages/partial"]);
  expect(grown.events.at(-1)?.[1][0]).toMatchObject({ type: "ai", content: "ab" });
});

test("every token comes before the end of its run, however many runs go on", async () => {
  const input = { messages: [{ role: "user", content: "hi" }], text: "x".repeat(300) };
  const runs = Array.from({ length: 8 }, () => host.run("streamer", { input, modes: ["messages-tuple"] }));
  expect((await Promise.all(runs)).map(({ events }) => events.length)).toEqual(Array(8).fill(300));
});

test("subgraphs are streamed under their namespace", async () => {
  const input = { messages: [{ role: "user", content: "hi" }] };
  const { events } = await host.run("streamerWithin", { input, modes: ["messages-tuple", "updates"], subgraphs: true });
  expect(names(events)).toContainEqual(expect.stringMatching(/^messages\|child:[0-9a-f-]+$/));
  expect(names(events)).toContainEqual(expect.stringMatching(/^updates\|child:/));
  expect(names(events)).toContain("updates");
});

test("every mode has its form", async () => {
  const modes = ["values", "updates", "custom", "tasks", "checkpoints", "debug"];
  const { events } = await host.run("custom", { input: { n: 2 }, modes });
  expect(new Set(names(events))).toEqual(new Set(modes));
  const of = (name: string) => events.filter(([it]) => it === name).map(([, data]) => data);
  expect(of("custom")).toEqual([{ i: 0 }, { i: 1 }]);
  expect(of("updates")).toEqual([{ emit: { x: 1 } }]);
  expect(of("checkpoints")[0]).toMatchObject({ parent_config: null, next: expect.any(Array) });
  const debug = of("debug").filter((it) => it.type === "checkpoint");
  expect(debug.at(-1).payload).toMatchObject({ checkpoint: { checkpoint_id: expect.any(String) }, tasks: [] });
  expect(debug.at(-1).payload.parent_checkpoint.checkpoint_id).toBe(debug.at(-2).payload.checkpoint.checkpoint_id);
});

test("callback events come beside the graph's own stream", async () => {
  const { events, end } = await host.run("custom", { input: {}, modes: ["events", "custom"] });
  expect(names(events).filter((name) => name === "custom")).toHaveLength(3);
  expect(events.filter(([name]) => name === "events").map(([, data]) => data.event)).toContain("on_chain_start");
  expect(end.values).toEqual({ x: 1 });
});

test("errors of nodes are the outcome of the run", async () => {
  const { end } = await host.run("boom", { thread: "t-boom", input: {} });
  expect(end).toMatchObject({ status: "error", error: { error: "RangeError", message: "boom at 1" }, next: true });
  expect(end.error.traceback).toContain("graphs.ts");
  expect(end.state.tasks[0].error).toBe("RangeError: boom at 1");
  const odd = await host.run("boom", { input: { how: "surrogate" } });
  expect(odd.end.error.message).toBe("a\ufffdb");
  const unknown = await host.run("counter", { input: {}, modes: ["nonsense"] });
  expect(unknown.end.error.message).toContain("`nonsense`");
});

test("a run that failed goes on from where it stopped", async () => {
  await host.run("boom", { thread: "t-retry", input: {} });
  const { end } = await host.run("boom", { thread: "t-retry", command: { update: { how: "fine" } } });
  expect(end).toMatchObject({ status: "success", values: { n: 100 } });
});

test("context and configurable reach the nodes", async () => {
  expect((await host.run("withContext", { input: {}, context: { user: "ann" } })).end.values.x).toEqual({ user: "ann" });
  const config = { configurable: { user_name: "bob" }, recursion_limit: 7 };
  expect((await host.run("withContext", { input: {}, config })).end.values.x).toBe("bob");
});

test("the recursion limit of a request counts", async () => {
  const { end } = await host.run("counter", { input: { count: 1, log: [] }, config: { recursion_limit: 1 } });
  expect(end.error).toMatchObject({ error: "GraphRecursionError" });
});

test("nodes use the store", async () => {
  const { end } = await host.run("storer", { input: {} });
  expect(end.values.x).toEqual([{ n: 1 }, ["k"], [["users", "ann"], ["users", "bob"]], null]);
});

test.each([0, 1])("state that JSON drops is absent, and the thread goes on (%#)", async (n) => {
  const thread = `t-dropped-${n}`;
  const config = { configurable: { thread_id: thread, checkpoint_ns: "" } };
  for (let turn = 0; turn < 2; turn += 1) {
    expect((await host.run("dropped", { thread, input: { n } })).end).toMatchObject({ status: "success", values: { n } });
    expect((await host.call("state_get", "dropped", { config })).values).toEqual({ n });
  }
  expect(await host.call("state_history", "dropped", { config, limit: 10 })).toHaveLength(6);
  expect(host.checkpoints.blobs(thread)).not.toContain(0);
});

test("a thread that kept nothing for such a value can be read", async () => {
  const thread = "t-nothing";
  await host.run("custom", { thread, input: { x: { kept: true }, n: 1 } });
  host.checkpoints.empty(thread);
  const config = { configurable: { thread_id: thread, checkpoint_ns: "" } };
  expect((await host.call("state_history", "custom", { config, limit: 10 })).at(-2).values).toEqual({ n: 1 });
});

test("a value that contains itself is streamed and kept", async () => {
  const thread = "t-circular";
  const { events, end } = await host.run("circular", { thread, input: {}, modes: ["custom", "updates", "values"] });
  const x = { n: 1, self: "[Circular]" };
  expect(events).toEqual([
    ["custom", x], ["updates", { circle: { x } }], ["values", { x }],
  ]);
  expect(end).toMatchObject({ status: "success", values: { x } });
  const config = { configurable: { thread_id: thread, checkpoint_ns: "" } };
  expect((await host.call("state_get", "circular", { config })).values).toEqual({ x });
});

test("a task that wrote what JSON drops is done", async () => {
  const thread = "t-beside";
  expect((await host.run("droppedBesideQuestion", { thread, input: {} })).end.next).toBe(true);
  const { end, events } = await host.run("droppedBesideQuestion", { thread, command: { resume: 2 }, modes: ["updates"] });
  expect(end).toMatchObject({ status: "success", next: false, values: { n: 2 } });
  expect(events.map(([, data]) => data)).toEqual([{ drop: {}, __metadata__: { cached: true } }, { ask: { n: 2 } }]);
});

test("a second attempt goes on from the first one's checkpoint", async () => {
  const thread = "t-again";
  const first = await host.run("counter", { thread, input: { count: 1, log: [] }, before: ["double"] });
  expect(first.end.next).toBe(true);
  const { end } = await host.run("counter", { thread, input: { count: 1, log: [] }, resume: true, attempt: 2 });
  expect(end.values).toEqual({ count: 4, log: ["add", "double"] });
});

test("a thread of another language is refused by name", async () => {
  const head = {
    thread: "t-python", ns: "", id: "1f1e7388-7e80-6a71-8003-118f0b5f338d", parent: null,
    checkpoint: Buffer.from('{"v":4,"channel_values":{},"channel_versions":{},"versions_seen":{}}'),
    metadata: Buffer.from("{}"), blobs: [], writes: [],
  };
  const { end } = await host.run("counter", { thread: "t-python", head, input: { count: 1, log: [] } });
  expect(end.error).toMatchObject({ error: "ForeignThread", message: expect.stringContaining("begun by a graph in Python") });
});

test("storage that fails ends the run", async () => {
  host.failStore = "the disk is full";
  try {
    expect((await host.run("counter", { input: { count: 1, log: [] }, durability: "sync" })).end.status).toBe("error");
  } finally {
    host.failStore = undefined;
  }
});

test("what nodes print is on the standard output", async () => {
  await host.run("printer", { input: {} });
  expect(host.output).toContain("printed by a node");
  expect(host.output).toContain("an error line");
});
