// What a run streams: langgraph's chunks turned into the events that clients see.

import type { Connection } from "./connection.ts";
import { eventPrefix } from "./frames.mjs";
import { type Message, toJson, toJsonText } from "./json.ts";
import { MessageAccumulator, TupleEncoder } from "./messages.ts";
import { INTERRUPT, interruptsOf, shown } from "./spelling.ts";

const PASSED_THROUGH = new Set(["values", "updates", "custom", "tasks", "checkpoints", "debug"]);

type Values = Record<string, any>;

/** Sends the events of one run, and remembers its last values. */
export class Stream {
  readonly #connection: Connection;
  readonly #slot: number;
  readonly #asked: Set<string>;
  readonly #tuples: TupleEncoder | undefined;
  readonly #messages: MessageAccumulator | undefined;
  readonly #prefixes = new Map<string, Buffer>();
  /** The newest values of subgraphs, by namespace. */
  readonly #within = new Map<string, unknown>();
  #lastText: string | undefined;
  readonly events: boolean;
  /** The newest values of the root graph. */
  lastValues: unknown;
  /** The interrupts of the run so far. */
  interrupts: unknown[] = [];

  constructor(connection: Connection, slot: number, modes: string[]) {
    this.#connection = connection;
    this.#slot = slot;
    this.#asked = new Set(modes);
    for (const mode of this.#asked) {
      const known = PASSED_THROUGH.has(mode) || ["messages", "messages-tuple", "events"].includes(mode);
      if (!known) throw new RangeError(`unknown stream mode \`${mode}\``);
    }
    // Upstream: asking for both forms of messages yields only the tuples.
    if (this.#asked.has("messages-tuple")) this.#tuples = new TupleEncoder();
    else if (this.#asked.has("messages")) this.#messages = new MessageAccumulator();
    this.events = this.#asked.has("events");
  }

  /** The modes to ask langgraph for: what the client wants, and `values`, for the result of the run. */
  graphModes(): string[] {
    const modes = [...this.#asked].filter((mode) => PASSED_THROUGH.has(mode) && mode !== "values");
    const messages = this.#tuples !== undefined || this.#messages !== undefined;
    return ["values", ...modes, ...(messages ? ["messages"] : [])].sort();
  }

  /** Sends the events of one chunk. */
  chunk(ns: string[], mode: string, chunk: any): void {
    if (mode === "messages") return this.#message(ns, chunk);
    if (mode === "values") return this.#values(ns, chunk);
    if (!this.#asked.has(mode)) return;
    this.#send(mode, ns, toJson(shown(mode, chunk)));
  }

  /** The newest values of the root graph as they were sent, since a long conversation takes long to render. */
  lastText(): string {
    this.#lastText ??= toJsonText(this.lastValues);
    return this.#lastText;
  }

  /** Sends one of langchain's callback events. */
  event(event: unknown): void {
    this.#send("events", [], toJson(event));
  }

  #values(ns: string[], chunk: unknown): void {
    const root = ns.length === 0;
    const asked = this.#asked.has("values");
    if (!root && !asked) return;
    const place = ns.join("|");
    const interrupts = interruptsOf(chunk);
    if (interrupts !== undefined) {
      // At a node where the run is to pause nobody asks anything.
      if (interrupts.length === 0) return;
      if (root) this.interrupts.push(...interrupts);
      const known = root ? this.lastValues : this.#within.get(place);
      // LangGraph for JavaScript says interrupts without the values, its Python sibling with them.
      const shown = { ...(isValues(known) ? known : {}), [INTERRUPT]: interrupts };
      if (asked) this.#send("values", ns, toJson(shown));
      return;
    }
    if (!root) {
      this.#within.set(place, chunk);
      return this.#send("values", ns, toJson(chunk));
    }
    this.lastValues = chunk;
    this.#lastText = undefined;
    if (asked) this.#send("values", ns, Buffer.from(this.lastText()));
  }

  #message(ns: string[], [message, metadata]: [Message, Record<string, unknown>]): void {
    if (this.#tuples !== undefined) {
      this.#send("messages", ns, this.#tuples.encode(message, metadata));
    } else if (this.#messages !== undefined) {
      // Upstream: these names never carry a namespace.
      for (const [name, data] of this.#messages.add(message, metadata)) this.#send(name, [], data);
    }
  }

  #send(name: string, ns: string[], data: Buffer): void {
    const full = ns.length === 0 ? name : [name, ...ns].join("|");
    let prefix = this.#prefixes.get(full);
    if (prefix === undefined) {
      prefix = eventPrefix(full);
      this.#prefixes.set(full, prefix);
    }
    this.#connection.sendEvent(this.#slot, prefix, data);
  }
}

function isValues(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
