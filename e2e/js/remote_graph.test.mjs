// LangGraph's RemoteGraph: the served graphs as if they were here, also as a node of a local one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Annotation, Command, Send, StateGraph } from "@langchain/langgraph";
import { RemoteGraph } from "@langchain/langgraph/remote";
import { Client } from "@langchain/langgraph-sdk";

import { serve, stopAll } from "./server.mjs";

const oslo = { messages: [{ role: "user", content: "Oslo" }] };
let url, client;

before(async () => {
  url = await serve("gallery");
  client = new Client({ apiUrl: url });
});
after(stopAll);

const remote = (graphId) => new RemoteGraph({ graphId, url });
const onThread = async () => ({ configurable: { thread_id: (await client.threads.create()).thread_id } });

// RemoteGraph throws at an interrupt as soon as it hears of it, a moment before the run has ended.
async function pause(graph, input, config) {
  await assert.rejects(graph.invoke(input, config), { name: "GraphInterrupt" });
  const { thread_id } = config.configurable;
  for (const run of await client.runs.list(thread_id)) await client.runs.join(thread_id, run.run_id);
}

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a remote graph is invoked and streamed", async () => {
  const config = await onThread();
  const values = await remote("tools").invoke(oslo, config);
  assert.equal(values.messages.at(-1).content, "It is sunny in Oslo.");
  const updates = await all(await remote("tools").stream(oslo, { ...config, streamMode: "updates" }));
  assert.deepEqual(updates.map((chunk) => Object.keys(chunk)[0]), ["agent", "tools", "agent"]);
  const progress = await all(await remote("progress").stream({}, { streamMode: ["custom"], subgraphs: true }));
  assert.deepEqual(progress.map((chunk) => chunk.at(-1)), [{ step: 1, of: 2 }, { step: 2, of: 2 }]);
});

test("a remote interrupt is resumed", async () => {
  const config = await onThread();
  const review = remote("review");
  await pause(review, { topic: "looms" }, config);
  const state = await review.getState(config);
  assert.deepEqual(state.next, ["review"]);
  assert.equal(state.tasks[0].interrupts[0].value.question, "Publish this?");
  assert.equal((await review.invoke(new Command({ resume: true }), config)).approved, true);
  assert.deepEqual((await all(review.getStateHistory(config)))[0].next, []);
});

test("remote state is updated", async () => {
  const config = await onThread();
  const review = remote("review");
  await pause(review, { topic: "looms" }, config);
  await review.updateState(config, { draft: "mine" }, "write");
  assert.equal((await review.getState(config)).values.draft, "mine");
});

test("a remote command goes to nodes", async () => {
  const config = await onThread();
  const review = remote("review");
  const goto = new Send("review", { draft: "sent" });
  await pause(review, new Command({ update: { topic: "yarn" }, goto }), config);
  const { tasks, values } = await review.getState(config);
  assert.equal(values.topic, "yarn");
  assert.ok(tasks.some((task) => task.interrupts[0]?.value.draft === "sent"), JSON.stringify(tasks));
});

test("a remote graph is drawn", async () => {
  const nodes = Object.keys((await remote("review").getGraphAsync()).nodes);
  for (const name of ["__start__", "write", "review"]) assert.ok(nodes.includes(name), `${name} in ${nodes}`);
});

test("a remote failure is thrown", async () => {
  await assert.rejects(remote("review").invoke({ draft: "a draft without a topic" }));
});

test("a remote graph is a node of a local one", async () => {
  const State = Annotation.Root({ messages: Annotation() });
  const local = new StateGraph(State).addNode("remote", remote("tools")).addEdge("__start__", "remote").compile();
  const values = await local.invoke(oslo);
  assert.equal(values.messages.at(-1).content, "It is sunny in Oslo.");
});
