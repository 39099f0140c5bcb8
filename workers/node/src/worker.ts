// A worker from its first connection to its last frame: load the graphs, then serve the host's frames.

import { on } from "node:events";
import { realpathSync } from "node:fs";
import { type Socket, connect } from "node:net";

import { letManyListen } from "./abort_signals.ts";
import { type AuthConfig, CustomAuth } from "./auth.ts";
import { type Call, answer } from "./calls.ts";
import { Connection } from "./connection.ts";
import type { Control } from "./control.mjs";
import { type AppConfig, CustomApp } from "./custom_app.ts";
import { errorBody } from "./failures.ts";
import { FrameDecoder, type FrameId, Kind, PROTOCOL, ProtocolError, kindName, unpackMap } from "./frames.mjs";
import { Graphs } from "./graphs.ts";
import { hello } from "./hello.mjs";
import { Index, type IndexConfig } from "./index.ts";
import { ownSources, revision } from "./loading.ts";
import type { Project } from "./project.ts";
import { Run, type RunStart } from "./run.ts";
import { hostSaver } from "./saver.ts";
import { type TimeToLive, hostStore } from "./store.ts";
import { loadTracing } from "./trace_context.ts";
import { watched } from "./watched.ts";

/** A timer that is set to more than this ends at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Place {
  path: string;
  token: string;
}

/** The body of `LOAD`. */
interface Load {
  proto: number;
  project: string;
  graphs: Record<string, { path: string }>;
  store_index?: IndexConfig;
  store_ttl?: TimeToLive;
  auth?: AuthConfig;
  app?: AppConfig;
  url?: string;
}

/** Loads the project, and serves the host until it drains this worker. */
export async function serve({ path, token }: Place, control: Control, imported: Set<string>): Promise<void> {
  // The host decides when to stop; a terminal's Ctrl-C reaches it too.
  process.on("SIGINT", () => {});
  // What nobody waits for is no reason to take the other runs away.
  process.on("unhandledRejection", (reason) => console.error("a promise was rejected, and nobody handles it:", reason));
  letManyListen();
  const socket = connect(path);
  socket.write(hello("main", token));
  const load = await awaitLoad(socket);
  const project = realpathSync(load.project);
  process.chdir(project);
  // Where clients of LangGraph's SDK look that nobody gives an address.
  (globalThis as Record<symbol, unknown>)[Symbol.for("langgraph_api:url")] ??= load.url;
  const begun = Date.now();
  const graphs = new Graphs(project);
  await graphs.load(load.graphs);
  const { loaded: index, ...indexed } = await extra("store_index", load.store_index, (it) => Index.load(it, project));
  const loadAuth = (config: AuthConfig) => CustomAuth.load(config, project);
  // Whether a handler will read the body of a request can't be told before it does.
  const { loaded: auth, ...authorized } = await extra("auth", load.auth, loadAuth, { body: true });
  const { loaded: app, ...applied } = await extra("app", load.app, (it) => CustomApp.load(it, project));
  const parts = { graphs, tracing: loadTracing(project), index, auth, app, ttl: load.store_ttl };
  const worker = new Worker(socket, parts, control);
  const code = revision(ownSources(imported), project, begun);
  await worker.ready({ ...indexed, ...authorized, ...applied, revision: code });
}

/** Loads what the worker is for beside its graphs, and what `READY` says of that. */
async function extra<Config, Loaded>(
  name: string,
  config: Config | undefined,
  load: (config: Config) => Promise<Loaded>,
  more = {},
): Promise<{ loaded?: Loaded }> {
  if (config === undefined) return {};
  try {
    return { loaded: await watched(`\`${name}\``, () => load(config)), [name]: { ok: true, ...more } };
  } catch (thrown) {
    return { [name]: { ok: false, error: errorBody(thrown) } };
  }
}

/** Dispatches the host's frames. */
class Worker {
  readonly #connection: Connection;
  readonly #project: Project;
  readonly #control: Control;
  readonly #runs = new Map<number, Run>();
  readonly #tasks = new Set<Promise<void>>();
  #draining = false;

  constructor(socket: Socket, project: Project, control: Control) {
    this.#connection = new Connection(socket, this.#receive.bind(this), () => process.exit(1));
    this.#project = project;
    this.#control = control;
  }

  async ready(ready: object): Promise<void> {
    const { graphs, app } = this.#project;
    const connection = this.#connection;
    const report = await graphs.attach((kit) => ({
      saver: hostSaver(kit, connection),
      store: hostStore(kit, connection, this.#project),
    }));
    const started = app === undefined ? {} : { app: app.start(connection) };
    this.#control.ready();
    connection.sendMap(Kind.READY, 0, { graphs: report, ...ready, ...started });
  }

  #receive(kind: number, frame: FrameId, body: Buffer): void {
    const id = frame.number;
    switch (kind) {
      case Kind.RUN_START:
        return this.#start(id, unpackMap(body) as RunStart);
      case Kind.RUN_CANCEL:
        return this.#runs.get(id)?.cancel(unpackMap(body).reason);
      case Kind.CALL:
        return this.#keep(answer(id, unpackMap(body) as Call, this.#project, this.#connection));
      case Kind.ASGI_OPEN:
      case Kind.ASGI_MESSAGE:
      case Kind.ASGI_CREDIT:
      case Kind.ASGI_CLOSE:
        return this.#exchange(kind, frame, body);
      case Kind.DRAIN:
        if (!this.#draining) void this.#drain(unpackMap(body).grace_ms);
        return;
      default:
        throw new ProtocolError(`unexpected ${kindName(kind)} frame`);
    }
  }

  #exchange(kind: number, id: FrameId, body: Buffer): void {
    const served = this.#project.app?.receive(kind, id, body);
    if (served !== undefined) this.#keep(served);
  }

  #start(slot: number, body: RunStart): void {
    const run = new Run(slot, body, this.#project, this.#connection);
    this.#runs.set(slot, run);
    this.#control.runs(this.#runs.size);
    const ended = () => {
      this.#runs.delete(slot);
      this.#control.runs(this.#runs.size);
    };
    this.#keep(run.execute().finally(ended));
  }

  #keep(task: Promise<void>): void {
    this.#tasks.add(task);
    void task.finally(() => this.#tasks.delete(task));
  }

  async #drain(graceMs: number): Promise<void> {
    this.#draining = true;
    const deadline = setTimeout(() => {
      this.#runs.forEach((run) => run.cancel("drain"));
      this.#project.app?.stop();
    }, Math.min(graceMs, LONGEST_TIMER_MS));
    // A run that does not let go is the host's to kill.
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    clearTimeout(deadline);
    this.#control.leave();
    this.#connection.sendMap(Kind.BYE, 0, {});
    await this.#connection.finish();
    process.exit(0);
  }
}

async function awaitLoad(socket: Socket): Promise<Load> {
  const decoder = new FrameDecoder();
  for await (const [data] of on(socket, "data", { close: ["close"] })) {
    for (const { kind, body } of decoder.feed(data)) {
      // The host says nothing more before it has heard READY.
      socket.pause();
      if (kind !== Kind.LOAD) throw new ProtocolError(`expected LOAD, got ${kindName(kind)}`);
      const load = unpackMap(body) as Load;
      const [first, last] = PROTOCOL;
      if (load.proto < first || load.proto > last) {
        throw new ProtocolError(`the host chose protocol ${load.proto}; this worker speaks ${PROTOCOL}`);
      }
      return load;
    }
  }
  process.exit(1);
}
