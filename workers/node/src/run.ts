// One run of a graph: from `RUN_START` through its events to `END`.

import type { Connection } from "./connection.ts";
import { type ErrorBody, errorBody } from "./failures.ts";
import { EventStreaming, MARKER } from "./event_streaming.ts";
import { Kind } from "./frames.mjs";
import type { Use } from "./graphs.ts";
import { isMessage, toJson } from "./json.ts";
import type { Kit } from "./kit.ts";
import type { Graph } from "./loading.ts";
import type { Project } from "./project.ts";
import { described, makeCommand, runnableConfig } from "./requests.ts";
import { Scope, within } from "./scope.ts";
import { INTERRUPT } from "./spelling.ts";
import { finishedState, nextOf, openInterrupts, readState, threadState } from "./state.ts";
import { Stream } from "./stream.ts";
import { below } from "./trace_context.ts";

/** The body of `RUN_START`. */
export interface RunStart {
  graph: string;
  run: string;
  thread: string;
  input: Buffer | null;
  command: Buffer | null;
  config: Buffer;
  context: Buffer | null;
  modes: string[];
  subgraphs: boolean;
  durability: "sync" | "async" | "exit";
  before: string[] | null;
  after: string[] | null;
  head: Record<string, any> | null;
  resume: boolean;
}

interface End {
  status: "success" | "error" | "cancelled";
  result: Buffer | null;
  values: Buffer | null;
  state: Buffer | null;
  interrupts: Buffer | null;
  next: boolean;
  error: ErrorBody | null;
}

const CHECKPOINT_KEYS = ["checkpoint_id", "checkpoint_ns", "checkpoint_map"];
const STATELESS_REASONS = new Set(["rollback", "drain", "storage"]);

/** A run in progress. */
export class Run {
  readonly #slot: number;
  readonly #body: RunStart;
  readonly #project: Project;
  readonly #connection: Connection;
  readonly #scope: Scope;
  readonly #stop = new AbortController();
  #cancelReason: string | undefined;

  constructor(slot: number, body: RunStart, project: Project, connection: Connection) {
    this.#slot = slot;
    this.#body = body;
    this.#project = project;
    this.#connection = connection;
    this.#scope = new Scope(slot);
    this.#scope.oneWay = body.durability !== "sync";
    this.#scope.thread = body.thread;
    this.#scope.head = body.head;
    this.#scope.headUnread = true;
  }

  /** Executes the run and says its end; never fails. */
  async execute(): Promise<void> {
    const end = await within(this.#scope, () => this.#outcome()).catch((error) => this.#end(error));
    // The end comes behind every write of the run.
    await this.#scope.settled();
    this.#connection.sendMap(Kind.END, this.#slot, end);
  }

  /** Stops as soon as user code lets go; `END` tells when. */
  cancel(reason: string): void {
    if (this.#cancelReason !== undefined) return;
    this.#cancelReason = reason;
    this.#stop.abort(new Error(`the run is stopped: ${reason}`));
  }

  async #outcome(): Promise<End> {
    const config = this.#config();
    this.#scope.described = described(config);
    return await below(this.#project.tracing, config.metadata, () => this.#executed(config));
  }

  async #executed(config: { configurable: Record<string, any> }): Promise<End> {
    const executionRuntime = { context: this.#said() };
    const runtime = { accessContext: "threads.create_run", executionRuntime } as const;
    const use = await this.#project.graphs.open(this.#body.graph, config, runtime);
    const stream: Stream | EventStreaming = config.configurable[MARKER]
      ? new EventStreaming(this.#connection, this.#slot)
      : new Stream(this.#connection, this.#slot, this.#body.modes);
    let failure: { thrown: unknown } | undefined;
    try {
      this.#stop.signal.throwIfAborted();
      await this.#drive(use, config, stream);
    } catch (thrown) {
      failure = { thrown };
      // Who waits for the end of a run that was stopped may count on nothing of it going on.
      if (this.#cancelReason !== undefined) await this.#scope.idle();
    }
    return await this.#concluded(use, stream, failure);
  }

  /** Runs the graph, sending events as they come. */
  async #drive({ graph, kit }: Use, config: Record<string, any>, stream: Stream | EventStreaming): Promise<void> {
    const { subgraphs, durability, before, after } = this.#body;
    const context = this.#context(graph);
    const options = {
      ...config,
      signal: this.#stop.signal,
      ...(context === undefined ? {} : { context }),
      outputKeys: graph.outputChannels,
      interruptBefore: nodes(before),
      interruptAfter: nodes(after),
      durability,
    };
    const input = this.#input(config, kit);
    for await (const chunk of await this.#chunks(graph, input, options, stream)) {
      if (stream instanceof EventStreaming) stream.take(chunk);
      else if (subgraphs) stream.chunk(chunk[0], chunk[1], chunk[2]);
      else stream.chunk([], chunk[0], chunk[1]);
      const room = this.#connection.room();
      if (room !== undefined) await room;
    }
  }

  /** What the graph says as it runs. */
  async #chunks(
    graph: Graph,
    input: any,
    options: Record<string, any>,
    stream: Stream | EventStreaming,
  ): Promise<AsyncIterable<any>> {
    if (stream instanceof EventStreaming) {
      const run: any = await (graph as any).streamEvents(input, { ...options, version: "v3" });
      // Its end is told by its events; nobody asks for the rest of what it promises.
      for (const promised of [run.output, run.interrupts]) Promise.resolve(promised).catch(() => {});
      return run;
    }
    const told = { ...options, streamMode: stream.graphModes(), subgraphs: this.#body.subgraphs };
    return stream.events ? this.#eventChunks(graph, input, told, stream) : await graph.stream(input, told as any);
  }

  /** Runs the graph for its callback events; the root graph's own stream is what other modes show. */
  async *#eventChunks(graph: Graph, input: any, options: Record<string, any>, stream: Stream): AsyncGenerator<any> {
    const events: AsyncIterable<any> = (graph as any).streamEvents(input, { ...options, version: "v2" });
    for await (const event of events) {
      if (event.event === "on_chain_stream" && event.run_id === this.#body.run) yield event.data.chunk;
      else stream.event(event);
    }
  }

  /** The body of `END` once the graph has stopped. */
  async #concluded(use: Use, stream: Stream | EventStreaming, failure: { thrown: unknown } | undefined): Promise<End> {
    const end = this.#end(failure?.thrown, failure === undefined);
    if (end.status === "cancelled" && STATELESS_REASONS.has(this.#cancelReason ?? "")) return end;
    const { thread, run } = this.#body;
    const { last } = this.#scope;
    if (failure === undefined && last !== undefined && this.#leavesNothingToDo(use, stream)) {
      const values = stream.lastText();
      return { ...end, values: Buffer.from(values), state: finishedState(thread, values, last) };
    }
    try {
      const snapshot = await readState(use.graph, thread);
      end.values = toJson(snapshot.values);
      end.state = toJson(threadState(snapshot));
      end.interrupts = toJson(openInterrupts(snapshot));
      end.next = nextOf(snapshot).length > 0;
      if (end.status !== "error") {
        const result = resultOf(use.graph, stream, snapshot.values);
        end.result = result.equals(end.values) ? null : result;
      }
    } catch (thrown) {
      console.error(`the state after run ${run} can't be read:`, thrown);
    }
    return end;
  }

  /** Whether the last values and the last checkpoint are the whole state, so that it needs no reading back. */
  #leavesNothingToDo({ graph, plainState }: Use, stream: Stream | EventStreaming): boolean {
    const { before, after } = this.#body;
    const pauses = [before, after, graph.interruptBefore, graph.interruptAfter].some((it) => (it?.length ?? 0) > 0);
    const paused = this.#scope.interrupted || stream.interrupts.length > 0;
    return plainState && !pauses && !paused && stream.lastValues !== undefined;
  }

  #end(thrown: unknown, succeeded = false): End {
    const nothing = { result: null, values: null, state: null, interrupts: null, next: false, error: null };
    if (succeeded) return { ...nothing, status: "success" };
    if (this.#cancelReason !== undefined) return { ...nothing, status: "cancelled" };
    return { ...nothing, status: "error", error: errorBody(thrown) };
  }

  #config(): { configurable: Record<string, any> } & Record<string, any> {
    const config = runnableConfig(JSON.parse(this.#body.config.toString()));
    config.configurable.thread_id = this.#body.thread;
    if (this.#body.resume) {
      // The fork, if one was asked for, was made by the first attempt.
      for (const key of CHECKPOINT_KEYS) delete config.configurable[key];
    }
    return { ...config, runId: this.#body.run };
  }

  #context(graph: Graph): unknown {
    // Upstream: a graph that has a schema of its context gets an empty one where nobody gives it any.
    return this.#said() ?? (hasContext(graph) ? {} : undefined);
  }

  /** The context that the caller gives. */
  #said(): unknown {
    const { context } = this.#body;
    return context === null ? undefined : JSON.parse(context.toString());
  }

  #input(config: Record<string, any>, kit: Kit): unknown {
    const { resume, command, input, head } = this.#body;
    if (resume) return null;
    if (command === null) return input === null ? null : JSON.parse(input.toString());
    const said = JSON.parse(command.toString());
    const fresh = head === null && !config.configurable.checkpoint_id;
    if (fresh && said.resume !== undefined && said.resume !== null) {
      throw new TypeError("there is nothing to resume: the thread has no checkpoint");
    }
    return makeCommand(kit, said);
  }
}

function hasContext(graph: Graph): boolean {
  return (graph as { builder?: { _configRuntimeSchema?: object } }).builder?._configRuntimeSchema !== undefined;
}

function nodes(names: string[] | null): "*" | string[] | undefined {
  if (names === null || names.length === 0) return undefined;
  return names.length === 1 && names[0] === "*" ? "*" : names;
}

/** What a waiting client gets: the last values, with the interrupts if there are any. */
function resultOf(graph: Graph, stream: Stream | EventStreaming, state: any): Buffer {
  const values = stream.lastValues ?? output(graph, state);
  if (stream.interrupts.length === 0) return toJson(values);
  const map = typeof values === "object" && values !== null && !isMessage(values) ? values : {};
  return toJson({ ...map, [INTERRUPT]: stream.interrupts });
}

function output(graph: Graph, state: any): unknown {
  const keys = graph.outputChannels;
  if (!Array.isArray(keys) || typeof state !== "object" || state === null) return state;
  return Object.fromEntries(Object.entries(state).filter(([key]) => keys.includes(key)));
}
