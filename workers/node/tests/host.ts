// A host in memory that speaks docs/worker-protocol.md to a real worker.

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type Server, type Socket, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { FrameDecoder, Kind, header, kindName, packMap, unpackMap } from "../src/frames.mjs";
import { encode } from "../src/msgpack.mjs";
import { Checkpoints, Items } from "./storage.ts";

type Body = Record<string, any>;
export type Role = "main" | "control";

const HERE = dirname(fileURLToPath(import.meta.url));
const ENTRY = join(HERE, "../src/main.mjs");
const TSX = join(HERE, "../node_modules/tsx/package.json");
const JSON_FIELDS = ["result", "values", "state", "interrupts"];
export const PROJECT = join(HERE, "project");

/** What a run sends: its events as they come, then its end. */
export class RunView {
  readonly slot: number;
  readonly events: [name: string, data: any][] = [];
  readonly ended: Promise<Body>;
  end!: (body: Body) => void;
  #news: () => void = () => {};

  constructor(slot: number) {
    this.slot = slot;
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
  }

  heard(name: string, data: any): void {
    this.events.push([name, data]);
    this.#news();
  }

  /** Waits for that many events. */
  async until(count: number): Promise<void> {
    while (this.events.length < count) {
      await new Promise<void>((resolve) => {
        this.#news = resolve;
      });
    }
  }
}

/** One worker's host. */
export class FakeHost {
  readonly folder = mkdtempSync(join(tmpdir(), "threadyard-test-"));
  readonly path = join(this.folder, "w.sock");
  readonly token = randomUUID();
  readonly checkpoints = new Checkpoints();
  readonly items = new Items();
  readonly ready: Promise<Body>;
  readonly bye: Promise<void>;
  readonly connected = new Map<Role, Promise<Socket>>();
  /** Hears every frame of the worker. */
  hear: (kind: number, id: number, body: Buffer) => void = () => {};
  failStore: string | undefined;
  process: ChildProcess | undefined;
  output = "";
  readonly #server: Server;
  readonly #greeted = new Map<Role, (socket: Socket) => void>();
  readonly #runs = new Map<number, RunView>();
  readonly #calls = new Map<number, (body: Buffer) => void>();
  #setReady!: (body: Body) => void;
  #sayBye!: () => void;
  #pong: (body: Body) => void = () => {};
  #next = 0;

  constructor() {
    this.ready = new Promise((resolve) => {
      this.#setReady = resolve;
    });
    this.bye = new Promise((resolve) => {
      this.#sayBye = resolve;
    });
    for (const role of ["main", "control"] as const) {
      this.connected.set(role, new Promise((resolve) => this.#greeted.set(role, resolve)));
    }
    this.#server = createServer((socket) => this.#serve(socket)).listen(this.path);
  }

  /** Starts a worker, and has it load graphs. */
  async load(graphs: Record<string, string>, more: Body = {}, project = PROJECT): Promise<Body> {
    this.launch(project);
    const entries = Object.fromEntries(Object.entries(graphs).map(([id, path]) => [id, { path }]));
    await this.send(Kind.LOAD, 0, { proto: 1, project, graphs: entries, concurrency: 10, imports: [], ...more });
    return await this.ready;
  }

  launch(cwd = PROJECT): void {
    const env = { ...process.env, THREADYARD_SOCKET: this.path, THREADYARD_TOKEN: this.token, THREADYARD_TSX: TSX };
    this.process = spawn(process.execPath, [ENTRY], { env, cwd, stdio: ["ignore", "pipe", "pipe"] });
    this.process.stdout?.on("data", (data) => (this.output += data));
    this.process.stderr?.on("data", (data) => (this.output += data));
  }

  /** Starts a run; `more` are fields of `RUN_START`, those of JSON as plain values. */
  startRun(graph: string, more: Body = {}): RunView {
    const { thread = randomUUID(), run = randomUUID(), config = {}, input = null, command = null, ...rest } = more;
    const context = rest.context === undefined ? null : json(rest.context);
    const identity = { thread_id: thread, graph_id: graph, run_id: run };
    const view = new RunView(this.#id());
    this.#runs.set(view.slot, view);
    const body = {
      graph,
      run,
      thread,
      assistant: randomUUID(),
      attempt: 1,
      modes: ["values"],
      subgraphs: false,
      durability: "async",
      before: null,
      after: null,
      head: this.checkpoints.head(thread),
      resume: false,
      ...rest,
      input: input === null ? null : json(input),
      command: command === null ? null : json(command),
      context,
      config: json({ ...config, configurable: { ...config.configurable, ...identity } }),
    };
    void this.send(Kind.RUN_START, view.slot, body);
    return view;
  }

  /** A whole run: its events and its end. */
  async run(graph: string, more: Body = {}): Promise<{ events: [string, any][]; end: Body }> {
    const view = this.startRun(graph, more);
    return { end: await view.ended, events: view.events };
  }

  /** Returns when it is on its way. */
  async cancel(view: RunView, reason = "interrupt"): Promise<void> {
    await this.send(Kind.RUN_CANCEL, view.slot, { reason });
  }

  /** A call; throws the error that the worker answers. */
  async call(op: string, graph: string | null, args: Body): Promise<any> {
    const id = this.#id();
    const answered = new Promise<Buffer>((resolve) => this.#calls.set(id, resolve));
    await this.send(Kind.CALL, id, { op, graph, args: json(args) });
    const body = await answered;
    const answer = JSON.parse(body.toString("utf8", 1));
    if (body[0] === 0) return answer;
    throw Object.assign(new Error(answer.message), answer);
  }

  async ping(): Promise<Body> {
    const answered = new Promise<Body>((resolve) => {
      this.#pong = resolve;
    });
    await this.send(Kind.PING, 0, { t: 1 }, "control");
    return await answered;
  }

  /** Waits until the worker's event loop is known to be blocked, and returns what it answered then. */
  async blocked(): Promise<Body> {
    for (;;) {
      const pong = await this.ping();
      if (pong.lag_ms > 500 && pong.runs > 0) return pong;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async send(kind: number, id: number, body: Body, role: Role = "main"): Promise<void> {
    (await this.connected.get(role))?.write(packMap(kind, id, body));
  }

  async exitCode(): Promise<number | null> {
    const worker = this.process as ChildProcess;
    if (worker.exitCode === null && worker.signalCode === null) await once(worker, "exit");
    return worker.exitCode;
  }

  /** Closes every connection, upon which a worker ends. */
  async stop(): Promise<void> {
    this.process?.kill("SIGKILL");
    if (this.process !== undefined) await this.exitCode();
    this.#server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #id(): number {
    this.#next += 1;
    return this.#next;
  }

  #serve(socket: Socket): void {
    const decoder = new FrameDecoder();
    let role: Role | undefined;
    socket.on("error", () => {});
    socket.on("data", (data: Buffer) => {
      for (const { kind, id, body } of decoder.feed(data)) {
        if (role === undefined) {
          role = unpackMap(body).role as Role;
          this.#greeted.get(role)?.(socket);
        }
        this.hear(kind, id.number, body);
        if (kind !== Kind.HELLO) this.#receive(socket, kind, id, body);
      }
    });
  }

  #receive(socket: Socket, kind: number, { number, ours }: { number: number; ours: boolean }, body: Buffer): void {
    const run = this.#runs.get(number);
    if (kind === Kind.EVENT) for (const [name, data] of splitEvents(body)) run?.heard(name, JSON.parse(data.toString()));
    else if (kind === Kind.REPLY) this.#calls.get(number)?.(body);
    else if (kind === Kind.END) run?.end(readable(unpackMap(body)));
    else if (kind === Kind.READY) this.#setReady(unpackMap(body));
    else if (kind === Kind.PONG) this.#pong(unpackMap(body));
    else if (kind === Kind.BYE) this.#sayBye();
    else this.#store(socket, kind, number, ours, unpackMap(body));
  }

  #store(socket: Socket, kind: number, id: number, request: boolean, body: Body): void {
    const reply = (status: number, result: Uint8Array) => {
      if (request) socket.write(Buffer.concat([header(Kind.REPLY, id, result.length + 1, true), Buffer.of(status), result]));
    };
    if (this.failStore !== undefined) {
      if (!request) return void this.send(Kind.RUN_CANCEL, id, { reason: "storage" });
      return reply(1, json({ error: "StorageError", message: this.failStore }));
    }
    reply(0, encode(this.#stored(kind, body)));
  }

  #stored(kind: number, body: Body): unknown {
    if (kind === Kind.CP_PUT) return void this.checkpoints.put(body);
    if (kind === Kind.CP_WRITES) return void this.checkpoints.putWrites(body);
    if (kind === Kind.CP_CALL) return this.checkpoints.call(body);
    if (kind === Kind.STORE_BATCH) return this.items.batch(body.ops);
    throw new Error(`unexpected frame ${kindName(kind)}`);
  }
}

/** The `[name, data]` pairs of an `EVENT` body. */
export function* splitEvents(body: Buffer): Generator<[string, Buffer]> {
  for (let at = 0; at < body.length; ) {
    const name = body.toString("utf8", at + 2, (at += 2 + body.readUInt16LE(at)));
    const length = body.readUInt32LE(at);
    yield [name, body.subarray(at + 4, (at += 4 + length))];
  }
}

export function names(events: [string, any][]): string[] {
  return events.map(([name]) => name);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function readable(end: Body): Body {
  const parsed = JSON_FIELDS.filter((key) => end[key] !== null).map((key) => [key, JSON.parse(end[key].toString())]);
  return { ...end, ...Object.fromEntries(parsed) };
}
