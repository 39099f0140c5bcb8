// Replays workers/protocol/transcripts with a real worker. They were recorded with Python, so that what rests on its
// wording is left out: what values look like inside, ids, texts of errors, and schemas.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { afterEach, expect, test } from "vitest";

import { Kind, kindName, unpackMap } from "../src/frames.mjs";
import { FakeHost, PROJECT, splitEvents } from "./host.ts";

type Json = any;
interface Line {
  dir: "H>W" | "W>H";
  conn: "main" | "control";
  kind: keyof typeof Kind;
  id: number;
  body: Json;
}

const FOLDER = join(PROJECT, "../../../protocol/transcripts");
const NAMES = readdirSync(FOLDER).map((name) => name.replace(".jsonl", ""));
/** What the worker says on its own account; the rest are requests, which come when they come. */
const AWAITED = new Set(["READY", "EVENT", "END", "REPLY", "PONG", "BYE"]);
const JSON_FIELDS = new Set(["result", "values", "state", "interrupts", "checkpoint", "metadata", "value", "filter"]);

let host: FakeHost;
afterEach(() => host.stop());

test.each(NAMES)("the worker keeps to %s", async (name) => {
  const lines = transcript(name);
  host = new FakeHost();
  const said: Line[] = [];
  host.hear = (kind, id, body) => said.push(...heard(kind, id, body));
  host.launch();
  let awaited = 0;
  for (const line of lines) {
    if (line.dir === "W>H") awaited += AWAITED.has(line.kind) ? 1 : 0;
    else if (line.kind !== "REPLY") {
      await until(() => said.filter((it) => AWAITED.has(it.kind)).length >= awaited);
      await host.send(Kind[line.kind], line.id, sent(line), line.conn);
    }
  }
  await until(() => said.filter((it) => AWAITED.has(it.kind)).length >= awaited);
  const expected = lines.filter((line) => line.dir === "W>H");
  for (const kind of new Set(expected.map((line) => line.kind))) {
    const of = (all: Line[]) => all.filter((it) => it.kind === kind).map(essence).filter((it) => it !== undefined);
    expect(of(said), kind).toEqual(of(expected.map((line) => ({ ...line, body: plain(line.body) }))));
  }
  const last = (kinds: string[]) => said.findLastIndex((it) => kinds.includes(it.kind) && it.id === 1);
  expect(last(["CP_PUT", "CP_WRITES"])).toBeLessThanOrEqual(last(["END"]));
});

function transcript(name: string): Line[] {
  const text = readFileSync(join(FOLDER, `${name}.jsonl`), "utf8");
  // LangGraph for JavaScript allows no node that is called like a key of the state.
  const renamed = text.replaceAll('{"draft": {"draft"', '{"write": {"draft"').replaceAll("pull, draft", "pull, write");
  return renamed.trim().split("\n").map((line) => JSON.parse(line));
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!condition() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** The lines of a frame. */
function heard(kind: number, id: number, body: Buffer): Line[] {
  const line = (it: Json): Line => ({ dir: "W>H", conn: "main", kind: kindName(kind) as Line["kind"], id, body: it });
  if (kind === Kind.EVENT) {
    return [...splitEvents(body)].map(([name, data]) => line({ name, data: JSON.parse(data.toString()) }));
  }
  if (kind === Kind.REPLY) return [line({ status: body[0], result: JSON.parse(body.toString("utf8", 1)) })];
  return [line(shown(unpackMap(body)))];
}

function shown(value: Json, field = ""): Json {
  if (value instanceof Uint8Array) return JSON_FIELDS.has(field) ? JSON.parse(value.toString()) : "bytes";
  if (Array.isArray(value)) return value.map((it) => shown(it, field));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, shown(it, key)]));
}

/** A transcript's body, with examples for what can't be predicted. */
function plain(value: Json): Json {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  if ("any" in value) return plain(value.example);
  if ("json" in value) return plain(value.json);
  if ("b64" in value) return "bytes";
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, plain(it)]));
}

/** The body of a line of the host, for the twin of the project that it was recorded with. */
function sent({ kind, body }: Line): Json {
  const packed = (value: Json): Json => {
    if (Array.isArray(value)) return value.map(packed);
    if (value === null || typeof value !== "object") return value;
    if ("any" in value) return packed(value.example);
    if ("json" in value) return Buffer.from(JSON.stringify(value.json));
    return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, packed(it)]));
  };
  if (kind === "LOAD") {
    const graphs = Object.entries<Json>(body.graphs).map(([id, { path }]) => [id, { path: path.replace(".py:", ".ts:") }]);
    return { ...packed(body), project: PROJECT, graphs: Object.fromEntries(graphs) };
  }
  // Checkpoints of Python mean nothing here; the host has the worker's own.
  if (kind === "RUN_START") return { ...packed({ ...body, head: null }), head: host.checkpoints.head(body.thread) };
  return packed(body);
}

/** What of a frame is the same in every language. */
function essence({ kind, id, body }: Line): Json {
  switch (kind) {
    case "HELLO":
      return { proto: body.proto, role: body.role };
    case "READY":
      return Object.fromEntries(Object.entries<Json>(body.graphs).map(([id, { ok, error }]) => [id, { ok, message: error?.message }]));
    case "EVENT":
      return [id, body.name, said(body.data)];
    case "END":
      return { id, ...ofEnd(body) };
    case "PONG":
      return { t: body.t, runs: body.runs };
    case "CP_PUT":
      return { ns: body.ns, first: body.parent === null, ...ofCheckpoint(body), blobs: body.blobs.map(([channel]: Json) => channel).sort() };
    case "CP_WRITES":
      return ofWrites(body);
    case "CP_CALL":
      return { op: body.op, slot: body.slot };
    case "REPLY":
      return [id, body.status, ofReply(body)];
    default:
      return body;
  }
}

/** Nothing for a task that was stopped, of which Python keeps the error. */
function ofWrites({ ns, path, writes }: Json): Json {
  const kept = writes.map(([index, channel]: Json) => [index, channel]).filter(isOfState);
  return kept.length === 0 ? undefined : { ns, path, writes: kept };
}

function ofEnd({ status, result, values, state, interrupts, next, error }: Json): Json {
  const asked = Object.values<Json>(interrupts ?? {}).map((of) => of.map((it: Json) => it.value));
  const shown = ofState(state);
  // Python keeps the error of a task that was stopped, JavaScript keeps none.
  if (status === "cancelled") for (const task of shown?.tasks ?? []) task.pop();
  return { status, result: said(result), values: said(values), state: shown, asked, next, failed: error !== null };
}

function ofState(state: Json): Json {
  if (!state) return state;
  const { source, step } = state.metadata;
  const tasks = state.tasks.map((task: Json) => [task.name, task.interrupts.map((it: Json) => it.value), task.error !== null]);
  return { values: said(state.values), next: state.next, tasks, source, step, keys: Object.keys(state).sort() };
}

function ofCheckpoint({ checkpoint, metadata }: Json): Json {
  const inline = Object.entries(checkpoint.channel_values).filter(([channel]) => isOfState([0, channel]));
  return { inline: Object.fromEntries(inline), source: metadata.source, step: metadata.step, run: metadata.run_id };
}

/** Channels by which nodes wake each other are langgraph's own. */
function isOfState([, channel]: [number, string]): boolean {
  return channel === "__interrupt__" || !/^(branch:|__)/.test(channel);
}

function ofReply({ status, result }: Json): Json {
  if (status !== 0) return result.status;
  if (Array.isArray(result)) return result.map(ofState);
  if ("tasks" in result) return ofState(result);
  if ("config" in result) return ofState(result.state);
  if ("edges" in result) return result;
  return Object.keys(result).sort();
}

/** Values, with what languages say differently of messages and interrupts left out. */
function said(value: Json): Json {
  if (Array.isArray(value)) return value.map(said);
  if (value === null || typeof value !== "object") return value;
  if ("content" in value && "type" in value) return { type: value.type, content: value.content };
  if ("langgraph_node" in value) return { langgraph_node: value.langgraph_node };
  if ("value" in value && "id" in value) return { value: said(value.value) };
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, said(it)]));
}
