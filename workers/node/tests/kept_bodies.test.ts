// What the host gets of a body that middleware has read.

import { expect, test } from "vitest";

import { keepBodies, unread } from "../src/kept_bodies.ts";

const URL = "http://localhost/runs";
const FORM = "multipart/form-data; boundary=mine";
const FIELDS = '--mine\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--mine--\r\n';

/** What Hono would hand to middleware. */
function asked(body: string | ReadableStream<Uint8Array>, type = "application/json") {
  const headers = { "content-type": type, "x-mine": "1" };
  const it = { raw: new Request(URL, { method: "POST", headers, body, duplex: "half" } as RequestInit) };
  keepBodies(it);
  return it;
}

/** A body that comes in parts, and how many of these were asked for. */
function coming(parts: number) {
  const made = { asked: 0, stream: undefined as unknown as ReadableStream<Uint8Array> };
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    if (made.asked === parts) return controller.close();
    made.asked += 1;
    controller.enqueue(new Uint8Array(1000).fill(made.asked));
  };
  made.stream = new ReadableStream({ pull }, { highWaterMark: 0 });
  return made;
}

test.each(["arrayBuffer", "blob", "json", "text"] as const)("what was read with %s is passed on to the byte", async (way) => {
  const said = '{ "text":  "é" }';
  const it = asked(said);
  const had = await it.raw[way]();
  const expected = await new Response(said, { headers: { "content-type": "application/json" } })[way]();
  expect(had).toEqual(expected);
  const passed = await unread(it);
  expect([passed.method, passed.url, passed.headers.get("x-mine")]).toEqual(["POST", URL, "1"]);
  expect(await passed.text()).toBe(said);
});

test("a form keeps the boundary that its type names", async () => {
  const it = asked(FIELDS, FORM);
  expect((await it.raw.formData()).get("a")).toBe("1");
  const passed = await unread(it);
  expect(passed.headers.get("content-type")).toBe(FORM);
  expect(await passed.clone().text()).toBe(FIELDS);
  expect((await passed.formData()).get("a")).toBe("1");
});

test("a form that is none, and JSON that is none, fail where they are read and are passed on", async () => {
  const it = asked("{", "application/json");
  await expect(it.raw.json()).rejects.toThrow(SyntaxError);
  expect(await (await unread(it)).text()).toBe("{");
  const form = asked("{", FORM);
  await expect(form.raw.formData()).rejects.toThrow(TypeError);
  expect(await (await unread(form)).text()).toBe("{");
});

test("a body is read once, as elsewhere, and what was read stays", async () => {
  const it = asked("first");
  expect(await it.raw.text()).toBe("first");
  await expect(it.raw.text()).rejects.toThrow(TypeError);
  expect(await (await unread(it)).text()).toBe("first");
});

test("who did not wait for the body has not taken it", async () => {
  const it = asked(coming(3).stream);
  const had = it.raw.text();
  expect((await (await unread(it)).text()).length).toBe(3000);
  expect((await had).length).toBe(3000);
});

test("a body that nobody read, or only a clone of it, comes as it came", async () => {
  const made = coming(5);
  const it = asked(made.stream);
  const passed = await unread(it);
  expect(passed).toBe(it.raw);
  expect(made.asked).toBe(0);
  const cloned = asked("whole");
  expect(await cloned.raw.clone().text()).toBe("whole");
  expect(await (await unread(cloned)).text()).toBe("whole");
});

test("of a body that is taken as a stream nothing is kept, and that is said", async () => {
  const made = coming(2);
  const it = asked(made.stream);
  const reader = (it.raw.body as ReadableStream<Uint8Array>).getReader();
  await expect(unread(it)).rejects.toThrow("as a stream");
  expect((await reader.read()).value?.[0]).toBe(1);
  expect(made.asked).toBe(1);
  await expect(unread(it)).rejects.toThrow(/^middleware took the body of POST \/runs as a stream/);
});

test("a request that middleware put into the place of the first is kept as well", async () => {
  const it = asked("first");
  it.raw = new Request(it.raw, { headers: { "x-mine": "2", "content-length": "5" }, body: "another" });
  expect(await it.raw.text()).toBe("another");
  const passed = await unread(it);
  expect([passed.headers.get("x-mine"), passed.headers.get("content-length")]).toEqual(["2", null]);
  expect(await passed.text()).toBe("another");
});

test("a body that breaks off fails for both", async () => {
  const stream = new ReadableStream({ pull: (controller) => controller.error(new Error("the other side has left")) });
  const it = asked(stream);
  await expect(it.raw.text()).rejects.toThrow("the other side has left");
  await expect(unread(it)).rejects.toThrow("the other side has left");
});

test("a request without a body is left alone", async () => {
  const it = { raw: new Request(URL) };
  keepBodies(it);
  expect(await it.raw.text()).toBe("");
  expect(await unread(it)).toBe(it.raw);
});
