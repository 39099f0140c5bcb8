// Runs that are stopped, and an event loop that is blocked.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";

import { FakeHost } from "./host.ts";

const host = new FakeHost();
const PATIENCE = { timeout: 60_000 };
/** Code that does not listen goes on until this file is there, and a moment longer. */
const letGo = join(host.folder, "let-go");

beforeAll(async () => {
  const slow = { slow: "./graphs.ts:slow", counter: "./graphs.ts:counter", slowWithin: "./graphs.ts:slowWithin" };
  const stubborn = ["ofTasks", "chain", "edge", "invoked"].map((name) => [name, `./stubborn.ts:${name}`]);
  await host.load({ ...slow, ...Object.fromEntries(stubborn) });
});
afterEach(() => rmSync(letGo, { force: true }));
afterAll(() => host.stop());

/** What the worker writes may come later than what it says. */
async function hadEnded(): Promise<void> {
  const told = Date.now();
  const ended = await vi.waitFor(() => {
    const [, at] = /the stubborn code has ended at (\d+)/.exec(host.output) ?? [];
    if (at === undefined) throw new Error("the stubborn code has not ended");
    return Number(at);
  }, PATIENCE);
  expect(ended).toBeLessThanOrEqual(told);
}

test("a run that is stopped ends at once where nodes listen", async () => {
  const view = host.startRun("slow", { input: {}, modes: ["custom"] });
  await view.until(1);
  host.cancel(view);
  // The node would sleep for an hour.
  const end = await view.ended;
  expect(end).toMatchObject({ status: "cancelled", error: null, next: true, values: { steps: ["first"] } });
});

test.each(["slow", "slowWithin"])("the end of %s waits for nodes that don't listen", async (graph) => {
  const view = host.startRun(graph, { input: { how: "stubborn", until: letGo }, modes: ["custom"], subgraphs: true });
  await view.until(1);
  host.output = "";
  await host.cancel(view);
  writeFileSync(letGo, "");
  expect((await view.ended).status).toBe("cancelled");
  await hadEnded();
});

test.each(["ofTasks", "chain", "edge", "invoked"])("the end of %s waits for its code, wherever that is", async (graph) => {
  host.output = "";
  const view = host.startRun(graph, { input: { until: letGo } });
  await vi.waitFor(() => expect(host.output).toContain("the stubborn code has begun"), PATIENCE);
  await host.cancel(view);
  writeFileSync(letGo, "");
  expect((await view.ended).status).toBe("cancelled");
  await hadEnded();
});

test("a run that is stopped as it begins ends without its state, when nobody asks for it", async () => {
  const view = host.startRun("slow", { input: {} });
  host.cancel(view, "rollback");
  expect(await view.ended).toMatchObject({ status: "cancelled", values: null, state: null });
});

test("stopping one run leaves the others alone", async () => {
  const one = host.startRun("slow", { input: {}, modes: ["custom"] });
  const other = host.startRun("slow", { input: { how: "stubborn", until: letGo } });
  await one.until(1);
  await host.cancel(one, "rollback");
  expect((await one.ended).status).toBe("cancelled");
  writeFileSync(letGo, "");
  expect((await other.ended).status).toBe("success");
});

test("the control connection answers while the event loop is blocked", async () => {
  host.output = "";
  const view = host.startRun("slow", { input: { how: "block", until: letGo } });
  const pong = await host.blocked();
  expect(pong).toMatchObject({ t: 1, runs: 1 });
  expect(pong.rss).toBeGreaterThan(1 << 20);
  const shown = /the event loop has been blocked for \d+ ms; it is here:\n(\s+at .*\n)*\s+at wait \(.*graphs\.ts/;
  await vi.waitFor(() => expect(host.output).toMatch(shown), PATIENCE);
  writeFileSync(letGo, "");
  expect((await view.ended).status).toBe("success");
  expect(await host.ping()).toMatchObject({ runs: 0 });
});
