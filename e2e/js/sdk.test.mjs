// The official JavaScript SDK against the built binary.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { serve, stopAll } from "./server.mjs";

// The SDK has two living lines; `LANGGRAPH_SDK` names the package to test.
const { Client } = await import(process.env.LANGGRAPH_SDK ?? "@langchain/langgraph-sdk");

const input = { messages: [{ role: "human", content: "hi" }] };
let client, gallery, receiver, hooks;

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

before(async () => {
  const urls = await Promise.all([serve("quickstart"), serve("gallery")]);
  [client, gallery] = urls.map((apiUrl) => new Client({ apiUrl }));
  const arrived = [];
  const waiting = [];
  hooks = () => (arrived.length ? Promise.resolve(arrived.shift()) : new Promise((done) => waiting.push(done)));
  receiver = createServer(async (request, answer) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    answer.end();
    const hook = { headers: request.headers, url: request.url, run: JSON.parse(text) };
    waiting.length ? waiting.shift()(hook) : arrived.push(hook);
  }).listen(0, "127.0.0.1");
  await new Promise((done) => receiver.once("listening", done));
});

after(() => {
  stopAll();
  receiver?.close();
});

test("a streamed run says its tokens and its webhook arrives", async () => {
  const thread = await client.threads.create();
  const webhook = `http://127.0.0.1:${receiver.address().port}/hook?token=abc`;
  let said = "";
  const stream = client.runs.stream(thread.thread_id, "agent", { input, streamMode: "messages-tuple", webhook });
  for await (const part of stream) if (part.event === "messages") said += part.data[0].content;
  const { headers, url, run } = await hooks();
  assert.equal(url, "/hook?token=abc");
  assert.match(headers["webhook-id"], /^msg_[0-9a-f]{32}_1$/);
  assert.equal(run.status, "success");
  assert.equal(run.values.messages.at(-1).content, said);
  assert.deepEqual((await client.threads.getState(thread.thread_id)).values, run.values);
});

test("runs are created, joined and listed", async () => {
  const thread = await client.threads.create();
  const run = await client.runs.create(thread.thread_id, "agent", { input });
  assert.equal(run.status, "pending");
  const values = await client.runs.join(thread.thread_id, run.run_id);
  assert.equal(values.messages.length, 2);
  assert.deepEqual((await client.runs.list(thread.thread_id)).map((it) => it.status), ["success"]);
});

test("threads are made, changed, found and deleted", async () => {
  const thread = await client.threads.create({ metadata: { owner: "ann" } });
  assert.equal(thread.status, "idle");
  await client.threads.update(thread.thread_id, { metadata: { kind: "test" } });
  const found = await client.threads.search({ metadata: { owner: "ann", kind: "test" } });
  assert.deepEqual(found.map((it) => it.thread_id), [thread.thread_id]);
  await client.threads.delete(thread.thread_id);
  await assert.rejects(client.threads.get(thread.thread_id), /404/);
});

test("default assistants are found and described", async () => {
  const [assistant] = await gallery.assistants.search({ graphId: "progress" });
  assert.equal(assistant.name, "progress");
  const schemas = await gallery.assistants.getSchemas(assistant.assistant_id);
  assert.ok("done" in schemas.state_schema.properties);
});

test("an interrupt waits and resumes", async () => {
  const { thread_id } = await gallery.threads.create();
  const values = await gallery.runs.wait(thread_id, "review", { input: { topic: "looms" } });
  assert.equal(values.__interrupt__[0].value.question, "Publish this?");
  assert.equal((await gallery.threads.get(thread_id)).status, "interrupted");
  const resumed = await gallery.runs.wait(thread_id, "review", { command: { resume: true } });
  assert.equal(resumed.approved, true);
  const history = await gallery.threads.getHistory(thread_id);
  assert.deepEqual(history.map((state) => state.next), [[], ["review"], ["write"], ["__start__"]]);
});

test("a state update takes the place of a node", async () => {
  const { thread_id } = await gallery.threads.create({ graphId: "review" });
  await gallery.threads.updateState(thread_id, { values: { topic: "x", draft: "mine" }, asNode: "write" });
  assert.deepEqual((await gallery.threads.getState(thread_id)).next, ["review"]);
  assert.equal((await gallery.runs.wait(thread_id, "review", { input: null })).draft, "mine");
});

for (const mode of ["values", "updates", "messages", "messages-tuple", "events", "debug", "tasks", "checkpoints"]) {
  test(`the stream mode ${mode} speaks`, async () => {
    const parts = await all(gallery.runs.stream(null, "tools", { input, streamMode: mode }));
    const names = new Set(parts.map((part) => part.event.split("/")[0]));
    assert.deepEqual(names, new Set(["metadata", mode === "messages-tuple" ? "messages" : mode]));
  });
}

test("several modes and subgraphs are streamed together", async () => {
  const config = { configurable: { steps: 2 } };
  const options = { input: {}, config, streamMode: ["custom", "updates"], streamSubgraphs: true };
  const parts = await all(gallery.runs.stream(null, "progress", options));
  assert.deepEqual(parts.filter((part) => part.event.startsWith("custom")).map((part) => part.data), [
    { step: 1, of: 2 },
    { step: 2, of: 2 },
  ]);
  assert.ok(parts.some((part) => part.event.startsWith("updates|")));
});

test("a resumable stream is joined behind an event", async () => {
  const { thread_id } = await client.threads.create();
  const parts = await all(client.runs.stream(thread_id, "agent", { input, streamMode: "values", streamResumable: true }));
  const run = parts[0].data.run_id;
  const rest = await all(client.runs.joinStream(thread_id, run, { lastEventId: parts[1].id }));
  assert.deepEqual(rest.map((part) => part.data), parts.slice(2).map((part) => part.data));
});

test("runs are cancelled and deleted", async () => {
  const { thread_id } = await client.threads.create();
  const later = await client.runs.create(thread_id, "agent", { input, afterSeconds: 3600 });
  await client.runs.cancel(thread_id, later.run_id, true);
  assert.equal((await client.runs.get(thread_id, later.run_id)).status, "interrupted");
  await client.runs.delete(thread_id, later.run_id);
  await assert.rejects(client.runs.get(thread_id, later.run_id), /404/);
});

test("stateless runs and batches bring their own threads", async () => {
  const values = await client.runs.wait(null, "agent", { input });
  assert.equal(values.messages.length, 2);
  const batch = await client.runs.createBatch([{ assistantId: "agent", input }, { assistantId: "agent", input }]);
  assert.notEqual(batch[0].thread_id, batch[1].thread_id);
});

test("wrong requests are refused", async () => {
  await assert.rejects(client.threads.get("not-a-uuid"), /422/);
  await assert.rejects(client.runs.wait(null, "nobody", { input }), /4\d\d/);
  const { thread_id } = await client.threads.create();
  await assert.rejects(client.runs.create(thread_id, "agent", { input, webhook: "not a url" }), /422/);
});

test("assistants have versions", async () => {
  const made = await gallery.assistants.create({ graphId: "progress", config: { configurable: { steps: 1 } }, name: "one" });
  const config = { configurable: { steps: 2 } };
  assert.equal((await gallery.assistants.update(made.assistant_id, { config, name: "two" })).version, 2);
  const versions = await gallery.assistants.getVersions(made.assistant_id);
  assert.deepEqual(versions.map((it) => [it.version, it.name]), [[2, "two"], [1, "one"]]);
  const steps = async () => {
    const parts = await all(gallery.runs.stream(null, made.assistant_id, { input: {}, streamMode: "custom", streamSubgraphs: true }));
    return parts.filter((part) => part.event.startsWith("custom")).length;
  };
  assert.equal(await steps(), 2);
  await gallery.assistants.setLatest(made.assistant_id, 1);
  assert.equal(await steps(), 1);
  await gallery.assistants.delete(made.assistant_id);
  await assert.rejects(gallery.assistants.get(made.assistant_id), /404/);
});

test("threads are copied", async () => {
  const { thread_id } = await client.threads.create();
  await client.runs.wait(thread_id, "agent", { input });
  const copy = await client.threads.copy(thread_id);
  assert.notEqual(copy.thread_id, thread_id);
  assert.equal((await client.threads.getState(copy.thread_id)).values.messages.length, 2);
});

test("items are kept in the store", async () => {
  await client.store.putItem(["js", "notes"], "k", { n: 1 });
  assert.deepEqual((await client.store.getItem(["js", "notes"], "k")).value, { n: 1 });
  const { items } = await client.store.searchItems(["js"], { filter: { n: { $gt: 0 } } });
  assert.deepEqual(items.map((it) => it.key), ["k"]);
  assert.deepEqual((await client.store.listNamespaces({ prefix: ["js"] })).namespaces, [["js", "notes"]]);
  await client.store.deleteItem(["js", "notes"], "k");
  assert.equal(await client.store.getItem(["js", "notes"], "k"), null);
});

test("crons are made, found and deleted", async () => {
  const { thread_id } = await client.threads.create();
  const cron = await client.crons.createForThread(thread_id, "agent", { schedule: "0 0 1 1 *", input });
  assert.equal(cron.thread_id, thread_id);
  const stateless = await client.crons.create("agent", { schedule: "0 0 1 1 *", input });
  const found = await client.crons.search({ threadId: thread_id });
  assert.deepEqual(found.map((it) => it.cron_id), [cron.cron_id]);
  for (const { cron_id } of [cron, stateless]) await client.crons.delete(cron_id);
  await assert.rejects(client.crons.create("agent", { schedule: "bogus", input }), /422/);
});
