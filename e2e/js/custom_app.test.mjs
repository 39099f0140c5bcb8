// An HTTP application in TypeScript (`http.app`, made with Hono), in a process of its own before the server's own routes.
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { after, before, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";

import { serve, stopAll } from "./server.mjs";

let url;

before(async () => {
  url = await serve("../e2e/js/app");
});
after(stopAll);

test("its routes are served, and its middleware sees to them", async () => {
  const answer = await fetch(`${url}/greet/ann%20b?q=1`);
  assert.deepEqual(await answer.json(), { hello: "ann b", q: "1" });
  assert.equal(answer.headers.get("x-app"), "here");
});

test("bodies go both ways, however long they are", async () => {
  const body = new Uint8Array(3_000_000).fill(7);
  const sent = await fetch(`${url}/length`, { method: "POST", body });
  assert.deepEqual(await sent.json(), { length: 3_000_000 });
  const lines = (await (await fetch(`${url}/count`)).text()).trim().split("\n");
  assert.deepEqual(lines.map((line) => [line.length, line.at(-1)]), [["0"], ["1"], ["2"]].map(([it]) => [200_001, it]));
});

test("what it has no route for is the server's, through its middleware", async () => {
  const client = new Client({ apiUrl: url });
  assert.equal((await client.runs.wait(null, "echo", { input: { text: "hi" } })).text, "hi!");
  const parts = [];
  for await (const part of client.runs.stream(null, "echo", { input: { text: "hi" } })) parts.push(part.event);
  assert.deepEqual(parts, ["metadata", "values", "values"]);
  const info = await fetch(`${url}/info`);
  assert.equal(info.headers.get("x-app"), "here");
  assert.equal((await fetch(`${url}/nowhere`)).status, 404);
  assert.equal((await fetch(`${url}/info`, { headers: { "x-shut": "1" } })).status, 503);
});

test("middleware may read a body that is for the server", async () => {
  for (const look of ["cached", "raw"]) {
    const client = new Client({ apiUrl: url, defaultHeaders: { "x-look": look } });
    assert.equal((await client.runs.wait(null, "echo", { input: { text: "é".repeat(100_000) } })).text.length, 100_001);
    await assert.rejects(client.runs.wait(null, "echo", { input: {} }), /no text/);
  }
  // What is taken as a stream nobody has any more.
  const body = JSON.stringify({ assistant_id: "echo", input: { text: "hi" } });
  const headers = { "content-type": "application/json", "x-look": "stream" };
  assert.equal((await fetch(`${url}/runs/wait`, { method: "POST", headers, body })).status, 500);
});

test("a client that nobody gives an address finds the server, in routes and in graphs", async () => {
  assert.deepEqual(await (await fetch(`${url}/asks`)).json(), { text: "hey!" });
  const client = new Client({ apiUrl: url });
  assert.equal((await client.runs.wait(null, "asking", { input: { text: "hey" } })).text, "hey!");
});

test("a request of any host finds its route, and one of an odd method none", async () => {
  const status = async (method, host) => {
    const [answer] = await once(request(`${url}/greet/ann`, { method, headers: { host } }).end(), "response");
    return answer.resume().statusCode;
  };
  for (const host of ["no:port", "a b", "x/elsewhere?"]) assert.equal(await status("GET", host), 200, host);
  assert.equal(await status("TRACE", "x"), 405);
});

test("a route that fails is a 500", async () => {
  assert.equal((await fetch(`${url}/fails`)).status, 500);
  assert.equal((await fetch(`${url}/greet/again`)).status, 200);
});
