// What a run says in the event streaming protocol: LangGraph's own events of it, as the API has them in every language.
//
// The host adds what only it knows, an event's id and number, behind the fixed beginning `{"type":"event",`.

import type { Connection } from "./connection.ts";
import { eventPrefix } from "./frames.mjs";
import { compactMessage, toJsonText } from "./json.ts";

/** The key of `configurable` that says a run is asked for by the protocol. */
export const MARKER = "__event_streaming_v2";

const INTERRUPT = "__interrupt__";

type Json = Record<string, any>;

interface Params {
  namespace: string[];
  timestamp: number;
  node?: string;
  data: any;
}

/** An event of LangGraph. */
export interface ProtocolEvent {
  method: string;
  params: Params;
}

/** Sends the events of one run, and remembers its last values. */
export class EventStreaming {
  readonly #connection: Connection;
  readonly #slot: number;
  readonly #prefixes = new Map<string, Buffer>();
  /** The messages that are being streamed, by the call that makes them. */
  readonly #messages = new Map<string, string>();
  readonly #asked = new Set<string>();
  /** Namespaces that are told to begin, but have said nothing of a graph yet: most of them are just nodes. */
  readonly #silent = new Map<string, Params>();
  readonly #interrupted = new Set<string>();
  lastValues: unknown;
  interrupts: unknown[] = [];

  constructor(connection: Connection, slot: number) {
    this.#connection = connection;
    this.#slot = slot;
  }

  /** Sends what one event comes to. */
  take({ method, params }: ProtocolEvent): void {
    if (method === "messages") return this.#message(params);
    if (method === "lifecycle") return this.#lifecycle(params);
    this.#break(params.namespace);
    if (method === "values") return this.#values(params);
    if (method === "updates" && params.node === INTERRUPT) return;
    if (method === "tasks") return this.#send(method, { ...params, data: task(params.data) });
    if (method.startsWith("custom:")) {
      const data = { name: method.slice("custom:".length), payload: params.data };
      return this.#send("custom", { ...params, data });
    }
    this.#send(method, params);
  }

  /** The newest values of the root graph, in full. */
  lastText(): string {
    return toJsonText(this.lastValues);
  }

  #values(params: Params): void {
    const { namespace, data } = params;
    const interrupts: Json[] | undefined = data?.[INTERRUPT];
    if (interrupts === undefined) {
      if (namespace.length === 0) this.lastValues = data;
      return this.#send("values", params);
    }
    if (namespace.length === 0) this.interrupts.push(...interrupts);
    this.#interrupted.add(namespace.join("|"));
    for (const { id, value } of interrupts) {
      // Every graph around it tells of an interrupt again.
      if (this.#asked.has(id)) continue;
      this.#asked.add(id);
      // The protocol calls it `payload`; the Python SDK reads `value`.
      this.#send("input.requested", { ...params, data: { interrupt_id: id, payload: value, value } });
    }
  }

  #message(params: Params): void {
    const { data, node, namespace } = params;
    const call = String(data.run_id ?? "");
    const id = data.id ?? this.#messages.get(call);
    if (data.event === "message-start") this.#messages.set(call, id);
    if (["message-finish", "error"].includes(data.event)) this.#messages.delete(call);
    // The namespace is that of the graph; the node has a place of its own.
    const within = node !== undefined && namespace.at(-1)?.startsWith(`${node}:`);
    const of = within ? namespace.slice(0, -1) : namespace;
    // Clients tell messages apart by these that are streamed at the same time.
    this.#send("messages", { ...params, namespace: of, data: { ...data, id, run_id: call } });
  }

  #lifecycle(params: Params): void {
    const { namespace, data } = params;
    // The host tells of the run itself.
    if (namespace.length === 0) return;
    const place = namespace.join("|");
    if (data.event === "started") return void this.#silent.set(place, params);
    if (this.#silent.delete(place)) return;
    const paused = data.event === "completed" && this.#interrupted.has(place);
    this.#send("lifecycle", { ...params, data: paused ? { ...data, event: "interrupted" } : data });
  }

  /** Tells that the graph of a namespace, and those around it, have begun. */
  #break(namespace: string[]): void {
    for (let depth = 1; depth <= namespace.length; depth += 1) {
      const place = namespace.slice(0, depth).join("|");
      const begun = this.#silent.get(place);
      if (begun !== undefined && this.#silent.delete(place)) this.#send("lifecycle", begun);
    }
  }

  #send(method: string, { namespace, timestamp, node, data }: Params): void {
    const params = { namespace, timestamp, ...(node === undefined ? {} : { node }), data };
    const text = toJsonText({ type: "event", method, params }, compactMessage);
    this.#connection.sendEvent(this.#slot, this.#prefix(eventName(method, namespace, data)), Buffer.from(text));
  }

  #prefix(name: string): Buffer {
    const known = this.#prefixes.get(name) ?? eventPrefix(name);
    this.#prefixes.set(name, known);
    return known;
  }
}

/**
 * The name by which the host knows an event's channel and namespace without reading it. It ends with the name of a custom
 * event behind two bars.
 */
function eventName(method: string, namespace: string[], data: any): string {
  const name = [method, ...namespace].join("|");
  return method === "custom" && data?.name ? `${name}||${data.name}` : name;
}

function task(data: Json): Json {
  const { error } = data;
  return error?.message === undefined ? data : { ...data, error: String(error.message) };
}
