// Custom auth in TypeScript: who is let in, what is changed, and what is refused.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { FakeHost } from "./host.ts";

let host: FakeHost;
const others: FakeHost[] = [];

beforeAll(async () => {
  host = new FakeHost();
  const ready = await host.load({}, { auth: { path: "./guard.ts:auth", deny: true } });
  expect(ready.auth).toEqual({ ok: true, body: true });
});
afterEach(async () => {
  for (const other of others.splice(0)) await other.stop();
});
afterAll(() => host.stop());

const user = { identity: "ann", display_name: "ann", is_authenticated: true, permissions: ["a", "b"] };
const authorize = (resource: string, action: string, value: object = {}) =>
  host.call("authorize", null, { user, resource, action, value });

function authenticate(authorization: string | undefined, more: object = {}) {
  const headers = authorization === undefined ? [] : [["authorization", Buffer.from(authorization).toString("base64")]];
  const asked = { method: "POST", path: "/a b/c", path_params: {}, query: "q=1", headers, body: null };
  const request = { ...asked, client: ["203.0.113.9", 40000], scheme: "http", ...more };
  return host.call("authenticate", null, request);
}

test("a user is named by an identity or by fields", async () => {
  const usual = { is_authenticated: true, permissions: [] };
  expect(await authenticate("plain")).toEqual({ user: { ...usual, identity: "plain", display_name: "plain" } });
  const body = Buffer.from('{"n": 1}').toString("base64");
  const { user } = await authenticate("body", { body, scheme: "https" });
  expect(user).toMatchObject({ ...usual, identity: '{"n":1}', url: "https://localhost/a%20b/c?q=1" });
});

test("whatever a client says, there is a request for the handler", async () => {
  const at = async (name: string) => {
    const headers = [["host", name], ["authorization", "body"]].map(([key, said]) => [key, Buffer.from(said).toString("base64")]);
    return (await authenticate(undefined, { headers, body: "MQ==" })).user.url;
  };
  expect(await at("threads.example:81")).toBe("http://threads.example:81/a%20b/c?q=1");
  for (const name of ["no:port", "a b", "x:99999", ""]) expect(await at(name)).toBe("http://localhost/a%20b/c?q=1");
  expect(await at("me@x/elsewhere?#")).toBe("http://x/a%20b/c?q=1");
  const refused = { status: 405, detail: "Method Not Allowed", headers: [] };
  expect(await authenticate("plain", { method: "TRACE" })).toEqual({ refused });
});

test("what a handler refuses is an answer", async () => {
  expect(await authenticate(undefined)).toEqual({ refused: { status: 401, detail: "who are you?", headers: [] } });
  expect(await authorize("store", "get")).toEqual({ refused: { status: 418, detail: "store:get a,b", headers: [] } });
});

test("what a handler throws is told without its message", async () => {
  const failed = { error: "Error", message: "an auth handler failed" };
  const thrown = await authenticate("secret").catch((error: unknown) => error);
  expect(thrown).toMatchObject(failed);
  expect(JSON.stringify(thrown)).not.toContain("no handler for");
});

test("what a handler returned that says nothing is told", async () => {
  const unusable = (message: RegExp) => ({ error: "UnusableAnswer", message: expect.stringMatching(message) });
  await expect(authenticate("other")).rejects.toMatchObject(unusable(/^authenticate must return an identity/));
  await expect(authorize("crons", "create")).rejects.toMatchObject(unusable(/^an authorization handler returned a/));
});

test("the most particular handler decides", async () => {
  const made = await authorize("threads", "create", { metadata: { a: 1 }, thread_id: "t" });
  expect(made).toEqual({ edits: { metadata: { a: 1, owner: "ann" } }, filter: null });
  expect(await authorize("threads", "delete")).toEqual({ edits: {}, filter: { owner: "ann" } });
  const forbidden = { refused: { status: 403, detail: "Forbidden", headers: [] } };
  expect(await authorize("assistants", "delete")).toEqual(forbidden);
  expect(await authorize("assistants", "read")).toEqual(forbidden);
});

test("what is no auth object is said so", async () => {
  for (const [path, why] of [
    ["./guard.ts:unarmed", "has no `authenticate` handler"],
    ["./graphs.ts:slow", "is no `Auth`"],
  ] as const) {
    const other = new FakeHost();
    others.push(other);
    const { auth } = await other.load({}, { auth: { path } });
    expect(auth.ok).toBe(false);
    expect(auth.error.message).toContain(why);
  }
});
