// JSON of whatever a graph puts into its state or stream, spelled as the LangGraph server spells it.

/** A message of LangChain, of whichever copy of it. */
export interface Message {
  id?: string;
  content: unknown;
  _getType?(): string;
  getType?(): string;
  toDict(): { type: string; data: object };
  concat?(other: Message): Message;
}

const ESSENTIAL = new Set(["type", "content", "id"]);
// As LangGraph's own serializer says it, so that a run streams what its thread keeps.
const CIRCULAR = "[Circular]";
const UNSERIALIZABLE = "[unable to serialize, circular reference is too complex to analyze]";
// PostgreSQL can't hold U+0000 in text, and halves of surrogate pairs are no text at all: neither leaves the worker.
const UNSPEAKABLE = /(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/g;

/** JSON text of a value, as bytes. */
export function toJson(value: unknown): Buffer {
  return Buffer.from(toJsonText(value));
}

/** JSON text of a value; `message` says how messages in it look. */
export function toJsonText(value: unknown, message = messageDict): string {
  const text = written(value, spelling(message)) ?? "null";
  return text.includes("\\u0000") || text.includes("\\ud") ? text.replace(UNSPEAKABLE, "$1\\ufffd") : text;
}

/** JSON text of any value at all: what has none is copied first, with other things in the places of what can't be said. */
function written(value: unknown, spell: Spelling): string | undefined {
  try {
    return JSON.stringify(value, spell);
  } catch {
    return JSON.stringify(sayable({ "": value }, "", spell, new Set()));
  }
}

/** A copy of a value that JSON can say, made as `JSON.stringify` goes through it. */
function sayable(holder: any, key: string | number, spell: Spelling, around: Set<unknown>): unknown {
  let original: any;
  let shown: any;
  try {
    original = holder[key];
    const own = typeof original?.toJSON === "function";
    shown = spell.call(holder, String(key), own ? original.toJSON(String(key)) : original);
  } catch {
    return UNSERIALIZABLE;
  }
  if (typeof shown !== "object" || shown === null) return shown;
  if (around.has(original) || around.has(shown)) return CIRCULAR;
  const within = new Set(around).add(original).add(shown);
  const below = (it: string | number) => sayable(shown, it, spell, within);
  if (Array.isArray(shown)) return Array.from(shown, (_, index) => below(index));
  return Object.fromEntries(Object.keys(shown).map((it) => [it, below(it)]));
}

/** Whether a value is a message. */
export function isMessage(value: unknown): value is Message {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as Message).toDict === "function" &&
    typeof ((value as Message).getType ?? (value as Message)._getType) === "function"
  );
}

/** A message as the API shows it. */
export function messageDict(message: Message): Record<string, unknown> {
  const { type, data } = message.toDict();
  const shown: Record<string, unknown> = { ...data, type };
  // Messages of Python say what they don't have.
  shown.name ??= null;
  if (type === "ai") shown.usage_metadata ??= null;
  return shown;
}

/** A message as it is streamed: the type of a chunk is its class. */
export function streamedMessage(message: Message): Record<string, unknown> {
  const name = (message.constructor as { lc_name?(): string }).lc_name?.();
  return name?.endsWith("MessageChunk") ? { ...messageDict(message), type: name } : messageDict(message);
}

/** A message without what it does not have. */
export function compactMessage(message: Message): Record<string, unknown> {
  const kept = Object.entries(messageDict(message)).filter(([key, value]) => ESSENTIAL.has(key) || !isNothing(value));
  return Object.fromEntries(kept);
}

function isNothing(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.keys(value).length === 0;
  return !value && value !== 0;
}

type Spelling = (this: any, key: string, value: unknown) => unknown;

/** What stands in JSON for values; called by `JSON.stringify` with the holder as `this`. */
function spelling(message: (message: Message) => unknown): Spelling {
  if (message === messageDict) return plain;
  return function (key, value) {
    const original = this[key];
    return isMessage(original) ? message(original) : plain.call(this, key, value);
  };
}

function plain(this: any, key: string, value: unknown): unknown {
  const type = typeof value;
  if (type === "string" || type === "number" || type === "boolean" || value === null || type === "undefined") return value;
  if (type === "bigint") return bigint(value as bigint);
  if (type !== "object") return undefined;
  // `value` has been through `toJSON` already, which for LangChain's objects names a class and its arguments.
  const original = this[key];
  if (isMessage(original)) return messageDict(original);
  if (isConstructed(value)) return value.kwargs;
  if (original instanceof Map) return Object.fromEntries(original);
  if (original instanceof Set) return [...original];
  if (original instanceof Uint8Array) return Buffer.from(original).toString("base64");
  if (original instanceof Error) return { error: original.name, message: original.message };
  return value;
}

function bigint(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

function isConstructed(value: any): value is { kwargs: unknown } {
  return value.lc === 1 && value.type === "constructor" && typeof value.kwargs === "object";
}
