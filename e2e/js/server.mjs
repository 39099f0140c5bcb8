// Servers for the tests: the built binary with an example, on loopback, with a data folder of its own.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const servers = [];

// Serves an example and gives its URL.
export async function serve(example) {
  const data = mkdtempSync(join(tmpdir(), "threadyard-js-"));
  const port = await freePort();
  const config = join(root, "examples", example, "langgraph.json");
  const args = ["dev", "--no-reload", "--port", String(port), "--config", config, "--data-dir", data];
  const server = spawn(process.env.THREADYARD_BIN, args, { stdio: "ignore" });
  servers.push(server);
  const url = `http://127.0.0.1:${port}`;
  for (let up = false; !up; ) {
    assert.equal(server.exitCode, null, "the server ended");
    up = await fetch(`${url}/info`).then((answer) => answer.ok, () => false);
    if (!up) await new Promise((done) => setTimeout(done, 10));
  }
  return url;
}

export function stopAll() {
  for (const server of servers) server.kill("SIGKILL");
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}
