// The official JavaScript SDK against the built binary.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client } from "@langchain/langgraph-sdk";

const root = join(import.meta.dirname, "../..");
let server, client, receiver, hooks;

before(async () => {
  const data = mkdtempSync(join(tmpdir(), "threadyard-js-"));
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  const config = join(root, "examples/quickstart/langgraph.json");
  const args = ["dev", "--no-reload", "--port", String(port), "--config", config, "--data-dir", data];
  server = spawn(process.env.THREADYARD_BIN, args, { stdio: "ignore" });
  client = new Client({ apiUrl: `http://127.0.0.1:${port}` });
  for (let up = false; !up; ) {
    assert.equal(server.exitCode, null, "the server ended");
    up = await fetch(`http://127.0.0.1:${port}/ok`).then((answer) => answer.ok, () => false);
    if (!up) await new Promise((done) => setTimeout(done, 10));
  }
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
  server?.kill("SIGKILL");
  receiver?.close();
});

test("a streamed run says its tokens and its webhook arrives", async () => {
  const thread = await client.threads.create();
  const webhook = `http://127.0.0.1:${receiver.address().port}/hook?token=abc`;
  const input = { messages: [{ role: "human", content: "hi" }] };
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
  const input = { messages: [{ role: "human", content: "hi" }] };
  const run = await client.runs.create(thread.thread_id, "agent", { input });
  assert.equal(run.status, "pending");
  const values = await client.runs.join(thread.thread_id, run.run_id);
  assert.equal(values.messages.length, 2);
  assert.deepEqual((await client.runs.list(thread.thread_id)).map((it) => it.status), ["success"]);
});
