// Servers for the tests: the built binary with an example, on loopback, with a data folder of its own. The graphs are those
// in Python, or with `THREADYARD_GRAPHS=typescript` their twins.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const twins = process.env.THREADYARD_GRAPHS === "typescript" ? "-ts" : "";
const servers = [];
const copies = [];

// Serves an example and gives its URL, as soon as a place answers that is open to everybody.
export async function serve(example, open = "/info") {
  return (await start(join(project(example), "langgraph.json"), { open })).url;
}

// Starts a server for a project and gives its URL, with a function that tells what it has said so far.
export async function start(config, settings = {}) {
  // The port may be somebody else's by the time that the server asks for it.
  for (let tries = 1; ; tries += 1) {
    const server = await started(config, settings);
    if (server.url) return server;
    assert.ok(tries < 5, `the server ended: ${server.said()}`);
  }
}

// A server that answers, or what one said that ended.
async function started(config, { open = "/info", command = ["dev", "--no-reload"], env = {} }) {
  const data = mkdtempSync(join(tmpdir(), "threadyard-js-"));
  const port = await freePort();
  const args = [...command, "--host", "127.0.0.1", "--port", String(port), "--config", config, "--data-dir", data];
  const server = spawn(process.env.THREADYARD_BIN, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...env } });
  servers.push(server);
  let log = "";
  server.stderr.setEncoding("utf8").on("data", (said) => (log += said));
  const url = `http://127.0.0.1:${port}`;
  while (server.exitCode === null) {
    const up = await fetch(`${url}${open}`).then((answer) => answer.ok, () => false);
    // What answers there may be somebody else.
    if (up && server.exitCode === null) return { url, said: () => log };
    await new Promise((done) => setTimeout(done, 10));
  }
  if (!server.stderr.closed) await new Promise((done) => server.stderr.once("close", done));
  return { said: () => log };
}

export function stopAll() {
  for (const server of servers) server.kill("SIGKILL");
  for (const copy of copies) rmSync(copy, { recursive: true, force: true });
}

// The folder of an example. What needs Node packages is copied to where the tests have them.
function project(example) {
  const twin = join(root, "examples", `${example}${twins}`);
  const original = existsSync(twin) ? twin : join(root, "examples", example);
  if (!existsSync(join(original, "tsconfig.json"))) return original;
  return copied(original);
}

// A copy of a project, beside the Node packages that the tests have.
export function copied(original) {
  const copy = mkdtempSync(join(root, "target/test-env/node/project-"));
  copies.push(copy);
  cpSync(original, copy, { recursive: true, filter: (path) => !path.includes("node_modules") });
  return copy;
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}
