// The control connection, served by a thread of its own: it answers while the event loop is blocked, and ends the
// process when the host is gone. Plain JavaScript, so that the thread needs no loader.
// @ts-check

import { writeSync } from "node:fs";
import { Session } from "node:inspector";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

import { FrameDecoder, Kind, packMap, unpackMap } from "./frames.mjs";
import { hello } from "./hello.mjs";

const BEAT_MS = 250;
/** From this on an event loop counts as blocked. */
const BLOCKED_MS = 500;
const STDERR = 2;

/**
 * What the event loop tells the thread: when it last turned, how many runs there are, whether it has loaded everything,
 * and whether it leaves.
 *
 * @typedef {object} Control
 * @property {() => void} ready
 * @property {(runs: number) => void} runs
 * @property {() => void} leave
 */

const BEAT = 0;
const RUNS = 1;
const LEAVING = 2;
const READY = 3;

/**
 * Begins to answer, and to measure this event loop.
 *
 * @param {{ path: string, token: string }} place
 * @returns {Control}
 */
export function startControl(place) {
  const shared = new BigInt64Array(new SharedArrayBuffer(32));
  const beat = () => Atomics.store(shared, BEAT, process.hrtime.bigint());
  beat();
  setInterval(beat, BEAT_MS).unref();
  const thread = new Worker(fileURLToPath(import.meta.url), { workerData: { ...place, shared }, execArgv: [] });
  thread.unref();
  return {
    ready: () => void Atomics.store(shared, READY, 1n),
    runs: (runs) => void Atomics.store(shared, RUNS, BigInt(runs)),
    leave: () => void Atomics.store(shared, LEAVING, 1n),
  };
}

/** @param {BigInt64Array} shared */
function lagMs(shared) {
  // To load packages is to block; nobody waits for anything else yet.
  if (Atomics.load(shared, READY) === 0n) return 0;
  const silent = Number(process.hrtime.bigint() - Atomics.load(shared, BEAT)) / 1e6;
  return Math.max(0, silent - BEAT_MS);
}

/**
 * Writes where the event loop is, if it still is there when it can be asked.
 *
 * @param {BigInt64Array} shared
 */
function showStack(shared) {
  const session = new Session();
  /** @type {Map<string, string>} */
  const files = new Map();
  session.connectToMainThread();
  session.on("Debugger.scriptParsed", ({ params }) => files.set(params.scriptId, params.url));
  session.once("Debugger.paused", ({ params }) => {
    const lag = lagMs(shared);
    // Lines would be those of what the loader made of the file.
    const frames = params.callFrames.map(
      ({ functionName, location }) => `    at ${functionName || "<anonymous>"} (${files.get(location.scriptId)})\n`,
    );
    session.post("Debugger.resume", () => session.disconnect());
    // The streams of this thread are written by the one that is blocked.
    if (lag > BLOCKED_MS) {
      writeSync(STDERR, `the event loop has been blocked for ${lag.toFixed(0)} ms; it is here:\n${frames.join("")}`);
    }
  });
  session.post("Debugger.enable");
  session.post("Debugger.pause");
}

/** @param {{ path: string, token: string, shared: BigInt64Array }} place */
function answer({ path, token, shared }) {
  const socket = connect(path);
  const decoder = new FrameDecoder();
  let stackShown = false;
  socket.write(hello("control", token));
  socket.on("data", (data) => {
    for (const { kind, body } of decoder.feed(data)) {
      if (kind !== Kind.PING) continue;
      const { t } = unpackMap(body);
      const lag = lagMs(shared);
      const runs = Number(Atomics.load(shared, RUNS));
      socket.write(packMap(Kind.PONG, 0, { t, lag_ms: lag, rss: process.memoryUsage.rss(), runs }));
      if (lag > BLOCKED_MS && !stackShown) showStack(shared);
      stackShown = lag > BLOCKED_MS;
    }
  });
  socket.on("error", () => {});
  // Nobody is left to work for, and the event loop may be past hearing of it.
  socket.on("close", () => Atomics.load(shared, LEAVING) === 1n || process.kill(process.pid, "SIGKILL"));
}

if (!isMainThread && parentPort !== null && workerData?.shared !== undefined) answer(workerData);
