// Graphs in Python and in TypeScript in one server: each runs in its own language, and nothing else differs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { serve, stopAll } from "./server.mjs";

let client;

before(async () => {
  client = new Client({ apiUrl: await serve("mixed") });
});
after(stopAll);

test("what one language keeps in the store, the other one finds", async () => {
  const input = { topic: "looms", note: "they weave" };
  assert.equal((await client.runs.wait(null, "remember", { input })).kept, true);
  assert.deepEqual((await client.runs.wait(null, "recall", { input: { topic: "looms" } })).notes, ["they weave"]);
});

test("both are described alike", async () => {
  const assistants = await client.assistants.search();
  assert.deepEqual(assistants.map((it) => it.graph_id).sort(), ["recall", "remember"]);
  for (const { assistant_id } of assistants) {
    const { state_schema } = await client.assistants.getSchemas(assistant_id);
    assert.ok("topic" in state_schema.properties);
    const { nodes, edges } = await client.assistants.getGraph(assistant_id);
    assert.equal(nodes.length, 3);
    assert.equal(edges.length, 2);
  }
});

test("a thread keeps its language", async () => {
  const { thread_id } = await client.threads.create();
  await client.runs.wait(thread_id, "remember", { input: { topic: "yarn", note: "it is long" } });
  const run = client.runs.wait(thread_id, "recall", { input: { topic: "yarn" } });
  await assert.rejects(run, /JavaScript/);
  await client.runs.wait(thread_id, "remember", { input: { topic: "yarn", note: "it is soft" } });
  assert.equal((await client.threads.getState(thread_id)).values.note, "it is soft");
});
