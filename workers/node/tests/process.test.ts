// The end of a worker.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, expect, test } from "vitest";

import { Kind } from "../src/frames.mjs";
import { FakeHost } from "./host.ts";

let host: FakeHost;
afterEach(() => host.stop());

async function started(): Promise<FakeHost> {
  host = new FakeHost();
  await host.load({ slow: "./graphs.ts:slow" });
  return host;
}

test("a worker that is drained finishes its runs and says goodbye", async () => {
  await started();
  const letGo = join(host.folder, "let-go");
  const view = host.startRun("slow", { input: { how: "stubborn", until: letGo } });
  // As long as the host waits for old code: more than a timer can hold.
  await host.send(Kind.DRAIN, 0, { grace_ms: 365 * 24 * 3600 * 1000 });
  writeFileSync(letGo, "");
  expect((await view.ended).status).toBe("success");
  await host.bye;
  expect(await host.exitCode()).toBe(0);
});

test("what does not finish in time is stopped", async () => {
  await started();
  const view = host.startRun("slow", { input: {}, modes: ["custom"] });
  await view.until(1);
  await host.send(Kind.DRAIN, 0, { grace_ms: 50 });
  expect(await view.ended).toMatchObject({ status: "cancelled", values: null });
  expect(await host.exitCode()).toBe(0);
});

test("a worker ends when its host is gone, even while its event loop is blocked", async () => {
  await started();
  // For good.
  host.startRun("slow", { input: { how: "block", until: join(host.folder, "never") } });
  await host.blocked();
  for (const socket of await Promise.all(host.connected.values())) socket.destroy();
  await host.exitCode();
});
