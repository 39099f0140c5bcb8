// Event streaming: the official JavaScript SDK 1.15 against the built binary, over HTTP and over a WebSocket.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";
import { WebSocket } from "ws";

import { serve, stopAll } from "./server.mjs";

const input = { messages: [{ role: "human", content: "hi" }] };
let quickstart, gallery;
// Node has one of its own from version 22 on.
globalThis.WebSocket ??= WebSocket;

before(async () => {
  const urls = await Promise.all([serve("quickstart"), serve("gallery")]);
  [quickstart, gallery] = urls.map((apiUrl) => new Client({ apiUrl }));
});

after(stopAll);

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

for (const transport of ["sse", "websocket"]) {
  test(`values arrive in order and the output is the last of them (${transport})`, async () => {
    const thread = quickstart.threads.stream({ assistantId: "agent", transport });
    const values = all(thread.values);
    const { run_id } = await thread.submitRun({ input });
    const output = await thread.output;
    assert.equal(output.messages.length, 2);
    const state = await quickstart.threads.getState(thread.threadId);
    assert.deepEqual(output.messages.at(-1).content, state.values.messages.at(-1).content);
    assert.equal((await quickstart.runs.get(thread.threadId, run_id)).status, "success");
    const lengths = (await values).map((value) => value.messages.length);
    assert.deepEqual(lengths, lengths.toSorted());
    assert.equal(lengths.at(-1), 2);
    await thread.close();
  });

  test(`an interrupt is heard and answered once (${transport})`, async () => {
    const thread = gallery.threads.stream({ assistantId: "review", transport });
    await thread.submitRun({ input: { topic: "looms" } });
    await thread.output;
    assert.equal(thread.interrupted, true);
    const [{ interruptId, payload, namespace }] = thread.interrupts;
    assert.equal(payload.question, "Publish this?");
    const answer = { namespace, interrupt_id: interruptId, response: true };
    await thread.respondInput(answer);
    const [run] = await gallery.runs.list(thread.threadId);
    await gallery.runs.join(thread.threadId, run.run_id);
    assert.equal((await gallery.threads.getState(thread.threadId)).values.approved, true);
    await assert.rejects(thread.input.respond(answer), (error) => error.code === "no_such_interrupt");
    await thread.close();
  });

  test(`tools are seen at work (${transport})`, async () => {
    const thread = gallery.threads.stream({ assistantId: "tools", transport });
    const calls = all(thread.toolCalls);
    await thread.submitRun({ input });
    await thread.output;
    await thread.close();
    const [call] = await calls;
    assert.deepEqual([call.name, call.input], ["weather", { city: "hi" }]);
    assert.match(JSON.stringify(await call.output), /sunny in hi/);
  });
}

test("the tree of a run and the states of its thread are shown, and gone on from", async () => {
  const thread = gallery.threads.stream({ assistantId: "review" });
  const { run_id } = await thread.submitRun({ input: { topic: "looms" } });
  await thread.output;
  const { tree } = await thread.agent.getTree({ run_id });
  assert.deepEqual([tree.namespace, tree.status, tree.graph_name], [[], "interrupted", "review"]);
  const { values, checkpoint } = await thread.state.get({ namespace: [], keys: ["topic"] });
  assert.deepEqual(values, { topic: "looms" });
  const { checkpoints } = await thread.state.listCheckpoints({ namespace: [] });
  assert.equal(checkpoints[0].id, checkpoint.id);
  const forked = await thread.state.fork({ checkpoint_id: checkpoints.at(-1).id, input: { topic: "warps" } });
  assert.equal(forked.thread_id, thread.threadId);
  await gallery.runs.join(thread.threadId, forked.run_id);
  assert.equal((await thread.state.get({ namespace: [] })).values.topic, "warps");
  await thread.close();
});

test("who comes late hears what was said", async () => {
  const early = quickstart.threads.stream({ assistantId: "agent" });
  await early.submitRun({ input });
  const said = await early.output;
  const late = quickstart.threads.stream(early.threadId, { assistantId: "agent" });
  const handle = await late.subscribe(["lifecycle", "values"]);
  const events = [];
  for await (const event of handle) {
    events.push(event);
    if (event.method === "lifecycle" && event.params.data.event === "completed") break;
  }
  const last = events.filter((event) => event.method === "values").at(-1).params.data;
  assert.deepEqual(last.messages.map((message) => message.id), said.messages.map((message) => message.id));
  await Promise.all([early.close(), late.close()]);
});
