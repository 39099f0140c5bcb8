// Runs that are stopped, and an event loop that is blocked.

import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { FakeHost } from "./host.ts";

const host = new FakeHost();

beforeAll(async () => {
  const slow = { slow: "./graphs.ts:slow", counter: "./graphs.ts:counter", slowWithin: "./graphs.ts:slowWithin" };
  const stubborn = ["ofTasks", "chain", "edge", "invoked"].map((name) => [name, `./stubborn.ts:${name}`]);
  await host.load({ ...slow, ...Object.fromEntries(stubborn) });
}, 60_000);
afterAll(() => host.stop());

/** What the worker writes may come later than what it says. */
async function hadEnded(): Promise<void> {
  const told = Date.now();
  const ended = await vi.waitFor(() => {
    const [, at] = /the stubborn code has ended at (\d+)/.exec(host.output) ?? [];
    if (at === undefined) throw new Error("the stubborn code has not ended");
    return Number(at);
  }, 5_000);
  expect(ended).toBeLessThanOrEqual(told);
}

test("a run that is stopped ends at once where nodes listen", async () => {
  const view = host.startRun("slow", { input: {}, modes: ["custom"] });
  await view.until(1);
  host.cancel(view);
  // The node would sleep for a minute.
  const end = await view.ended;
  expect(end).toMatchObject({ status: "cancelled", error: null, next: true, values: { steps: ["first"] } });
});

test.each(["slow", "slowWithin"])("the end of %s waits for nodes that don't listen", async (graph) => {
  const view = host.startRun(graph, { input: { how: "stubborn" }, modes: ["custom"], subgraphs: true });
  await view.until(1);
  host.output = "";
  host.cancel(view);
  expect((await view.ended).status).toBe("cancelled");
  await hadEnded();
});

test.each(["ofTasks", "chain", "edge", "invoked"])("the end of %s waits for its code, wherever that is", async (graph) => {
  host.output = "";
  const view = host.startRun(graph, { input: {} });
  await vi.waitFor(() => expect(host.output).toContain("the stubborn code has begun"), 5_000);
  host.cancel(view);
  expect((await view.ended).status).toBe("cancelled");
  await hadEnded();
});

test("a run that is stopped as it begins ends without its state, when nobody asks for it", async () => {
  const view = host.startRun("slow", { input: {} });
  host.cancel(view, "rollback");
  expect(await view.ended).toMatchObject({ status: "cancelled", values: null, state: null });
});

test("stopping one run leaves the others alone", async () => {
  const [one, other] = [host.startRun("slow", { input: {}, modes: ["custom"] }), host.startRun("slow", { input: { how: "stubborn" } })];
  await one.until(1);
  host.cancel(one, "rollback");
  expect((await one.ended).status).toBe("cancelled");
  expect((await other.ended).status).toBe("success");
});

test("the control connection answers while the event loop is blocked", async () => {
  const view = host.startRun("slow", { input: { how: "block" } });
  await new Promise((resolve) => setTimeout(resolve, 1200));
  const pong = await host.ping();
  expect(pong.lag_ms).toBeGreaterThan(500);
  expect(pong).toMatchObject({ t: 1, runs: 1 });
  expect(pong.rss).toBeGreaterThan(1 << 20);
  expect((await view.ended).status).toBe("success");
  expect(host.output).toMatch(/the event loop has been blocked for \d+ ms; it is here:\n\s+at wait \(.*graphs\.ts/);
  expect(await host.ping()).toMatchObject({ runs: 0 });
});
