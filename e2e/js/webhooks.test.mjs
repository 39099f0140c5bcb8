// The stock package for Standard Webhooks against what the server sends.
import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";
import { Webhook } from "standardwebhooks";

import { serve, stopAll } from "./server.mjs";

let url, receiver, hook;

before(async () => {
  url = await serve("gallery");
  let arrived;
  hook = new Promise((done) => (arrived = done));
  receiver = createServer(async (request, answer) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    answer.end();
    arrived({ headers: request.headers, body });
  }).listen(0, "127.0.0.1");
  await new Promise((done) => receiver.once("listening", done));
});

after(() => {
  stopAll();
  receiver?.close();
});

const keyFrom = async (path) => (await (await fetch(`${url}${path}`)).json()).key;

test("signatures are verified by a stock package, and by anybody with the public key", async () => {
  const webhook = `http://127.0.0.1:${receiver.address().port}/hook`;
  await new Client({ apiUrl: url }).runs.wait(null, "review", { input: { topic: "looms" }, webhook });
  const { headers, body } = await hook;

  const secret = await keyFrom(`/webhooks/secret?origin=${encodeURIComponent(webhook)}`);
  assert.equal(new Webhook(secret).verify(body, headers).type, "run.waiting");
  assert.throws(() => new Webhook(secret).verify(`${body} `, headers));

  const raw = Buffer.from((await keyFrom("/webhooks/public-key")).slice("whpk_".length), "base64");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") }, format: "jwk" });
  const signature = headers["webhook-signature"].split(" ").find((it) => it.startsWith("v1a,")).slice(4);
  const message = (text) => Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${text}`);
  assert.ok(verify(null, message(body), key, Buffer.from(signature, "base64")));
  assert.ok(!verify(null, message(`${body} `), key, Buffer.from(signature, "base64")));
});
