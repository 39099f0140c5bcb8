// Custom auth in TypeScript: the `Auth` of @langchain/langgraph-sdk/auth decides, in a process of its own.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { serve, stopAll } from "./server.mjs";

let apiUrl, ann, bob;

const as = (token) => new Client({ apiUrl, defaultHeaders: { authorization: `Bearer ${token}` } });

before(async () => {
  apiUrl = await serve("../e2e/js/guarded", "/ok");
  [ann, bob] = [as("ann"), as("bob")];
});
after(stopAll);

test("who is nobody is told so", async () => {
  const answer = await fetch(`${apiUrl}/threads`, { method: "POST", body: "{}" });
  assert.equal(answer.status, 401);
  assert.deepEqual(await answer.json(), { detail: "nobody at /threads" });
});

test("a handler that fails tells nobody what it knows", async () => {
  const answer = await fetch(`${apiUrl}/threads/search`, {
    method: "POST",
    body: "{}",
    headers: { authorization: "Bearer broken" },
  });
  assert.equal(answer.status, 500);
  assert.ok(!(await answer.text()).includes("secret"));
});

test("a graph knows who called it", async () => {
  const { user } = await ann.runs.wait(null, "who", { input: {} });
  assert.deepEqual(user, { identity: "ann", display_name: "ann", permissions: ["read", "write"], role: "weaver" });
});

test("each sees their own threads", async () => {
  const { thread_id, metadata } = await ann.threads.create({ metadata: { kind: "note" } });
  assert.deepEqual([metadata.owner, metadata.kind], ["ann", "note"]);
  await bob.threads.create();
  assert.ok((await ann.threads.search()).every((thread) => thread.metadata.owner === "ann"));
  assert.equal((await ann.threads.get(thread_id)).thread_id, thread_id);
  await assert.rejects(bob.threads.get(thread_id), /404/);
  await assert.rejects(bob.runs.wait(thread_id, "who", { input: {} }), /404/);
  await assert.rejects(ann.threads.delete(thread_id), /403/);
});

test("assistants are for everybody, and each has a shelf in the store", async () => {
  assert.equal((await bob.assistants.search())[0].graph_id, "who");
  await ann.store.putItem(["ann"], "k", { n: 1 });
  assert.deepEqual((await ann.store.getItem(["ann"], "k")).value, { n: 1 });
  await assert.rejects(bob.store.getItem(["ann"], "k"), /403.*not your shelf/s);
  const headers = { authorization: "Bearer bob" };
  const refused = await fetch(`${apiUrl}/store/items?namespace=ann&key=k`, { headers });
  assert.deepEqual([refused.status, refused.headers.get("x-shelf")], [403, "taken"]);
});
