// The checkpointer of every graph: forwards to the host, which alone opens the database.

import type { RunnableConfig } from "@langchain/core/runnables";
import type {
  BaseCheckpointSaver,
  ChannelVersions,
  Checkpoint,
  CheckpointListOptions,
  CheckpointMetadata,
  CheckpointTuple,
  PendingWrite,
} from "@langchain/langgraph-checkpoint";

import type { Connection } from "./connection.ts";
import { Kind } from "./frames.mjs";
import { toJson } from "./json.ts";
import type { Kit } from "./kit.ts";
import { type Scope, currentScope } from "./scope.ts";

const INLINE_STRING_LIMIT = 256;
const VERSION_WIDTH = 32;
const INTERRUPT = "__interrupt__";
/** Says in a checkpoint which language its values are written for. */
const LANGUAGE = "node";
const TASKS = "__pregel_tasks";
/** From this version of checkpoints on, what is to be sent is kept among the values of their channels. */
const KEEPS_SENDS = 4;
/** The thread was begun by a graph in another language, whose values mean nothing here. */
export class ForeignThread extends Error {
  override name = "ForeignThread";
}

/** A checkpoint on the wire: a blob for each larger value, and what tasks have written since. */
interface Saved {
  thread: string;
  ns: string;
  id: string;
  parent: string | null;
  checkpoint: Buffer;
  metadata: Buffer;
  blobs: [channel: string, version: string, type: string, data: Buffer][];
  writes: [task: string, path: string, index: number, channel: string, type: string, data: Buffer][];
}

/**
 * Makes the checkpointer.
 *
 * Inside a run with `async` or `exit` durability a put returns when it is queued: the socket keeps the order, and the
 * host commits everything before the run's end. Everywhere else a put waits for the commit.
 */
export function hostSaver(kit: Kit, connection: Connection): BaseCheckpointSaver<string> {
  class HostSaver extends kit.BaseCheckpointSaver<string> {
    async getTuple(config: RunnableConfig): Promise<CheckpointTuple | undefined> {
      const { thread, ns, id } = coordinates(config);
      if (thread === undefined) return undefined;
      const scope = currentScope();
      let saved: Saved | null;
      if (scope.headUnread && id === null && ns === "" && thread === scope.thread) {
        saved = scope.head as Saved | null;
        scope.headUnread = false;
        scope.head = null;
      } else {
        saved = await this.#call(scope, { op: "get", thread, ns, id });
      }
      return saved === null ? undefined : await this.#load(saved);
    }

    async *list(config: RunnableConfig, options: CheckpointListOptions = {}): AsyncGenerator<CheckpointTuple> {
      const { thread, id } = coordinates(config);
      const { limit, before, filter } = options;
      const beforeId: string | null = before?.configurable?.checkpoint_id ?? null;
      if (id !== null) {
        const found = await this.getTuple(config);
        const wanted = found !== undefined && matches(found.metadata, filter) && !(beforeId !== null && id >= beforeId);
        if (found !== undefined && wanted && limit !== 0) yield found;
        return;
      }
      const body = {
        op: "list",
        thread: thread ?? null,
        ns: config.configurable?.checkpoint_ns ?? null,
        filter: filter === undefined ? null : toJson(filter),
        before: beforeId,
        limit: limit ?? null,
      };
      for (const saved of await this.#call(currentScope(), body)) yield await this.#load(saved);
    }

    async put(
      config: RunnableConfig,
      checkpoint: Checkpoint,
      metadata: CheckpointMetadata,
      newVersions: ChannelVersions,
    ): Promise<RunnableConfig> {
      const scope = currentScope();
      const { thread, ns, id: parent } = coordinates(config);
      if (thread === undefined) throw new Error("a checkpoint can't be put without `configurable.thread_id`");
      const described = { ...scope.described, ...(ns === "" || scope.slot === 0 ? {} : within(config)), ...metadata };
      if (ns === "" && thread === scope.thread) {
        scope.headUnread = false;
        // Upstream: LangGraph names the thread when it reads a checkpoint.
        const shown = { ...described, thread_id: thread };
        scope.last = { id: checkpoint.id, parent, createdAt: checkpoint.ts, metadata: shown };
      }
      // Values that are not new are in an earlier checkpoint, if there is one.
      const inherited = parent !== null;
      const prepared = this.#split(checkpoint, newVersions, inherited).then(({ inline, blobs }) => ({
        thread,
        ns,
        id: checkpoint.id,
        parent,
        // Versions, and values that are JSON already.
        checkpoint: Buffer.from(JSON.stringify({ ...checkpoint, channel_values: inline, lang: LANGUAGE })),
        metadata: toJson(described),
        blobs,
      }));
      await this.#write(Kind.CP_PUT, scope, prepared);
      return { configurable: { thread_id: thread, checkpoint_ns: ns, checkpoint_id: checkpoint.id } };
    }

    async putWrites(config: RunnableConfig, writes: PendingWrite[], task: string, path = ""): Promise<void> {
      const scope = currentScope();
      const { thread, ns, id } = coordinates(config);
      if (thread === undefined || id === null) {
        throw new Error("writes can't be put without `configurable.thread_id` and `configurable.checkpoint_id`");
      }
      if (writes.some(([channel]) => channel === INTERRUPT)) scope.interrupted = true;
      if (ns === "" && thread === scope.thread) scope.headUnread = false;
      const packed = writes.map(async ([channel, value], index) => {
        // A write that is empty stays, since its task is done.
        const [type, data] = await this.serde.dumpsTyped(value);
        return [kit.WRITES_IDX_MAP[channel] ?? index, channel, type, data];
      });
      const prepared = Promise.all(packed).then((writes) => ({ thread, ns, id, task, path, writes }));
      await this.#write(Kind.CP_WRITES, scope, prepared);
    }

    async deleteThread(threadId: string): Promise<void> {
      await this.#call(currentScope(), { op: "delete_thread", thread: threadId });
    }

    /** A version that grows and that no fork of the thread repeats, so that a blob is stored once. */
    override getNextVersion(current: string | undefined): string {
      const number = current === undefined ? 0 : Number.parseInt(String(current), 10);
      return `${String(number + 1).padStart(VERSION_WIDTH, "0")}.${Math.random().toFixed(16)}`;
    }

    async #write(kind: number, scope: Scope, prepared: Promise<object>): Promise<void> {
      if (scope.oneWay) {
        return await scope.inOrder(prepared, (body) => connection.sendLazily(kind, scope.slot, body));
      }
      let committed: Promise<unknown> | undefined;
      await scope.inOrder(prepared, (body) => {
        committed = connection.request(kind, { ...body, slot: scope.slot });
      });
      await committed;
    }

    async #call(scope: Scope, body: object): Promise<any> {
      await scope.settled();
      return await connection.request(Kind.CP_CALL, { ...body, slot: scope.slot });
    }

    /** Channel values that stay in the checkpoint, and blobs of the others that are new. */
    async #split({ channel_values }: Checkpoint, newVersions: ChannelVersions, inherited: boolean) {
      const inline: Record<string, unknown> = {};
      const blobs: Promise<unknown[][]>[] = [];
      for (const [channel, value] of Object.entries(channel_values)) {
        const isNew = newVersions[channel] !== undefined;
        if (isInline(value)) {
          if (isNew || inherited) inline[channel] = value;
        } else if (isNew) {
          const version = String(newVersions[channel]);
          // Old versions of LangGraph serialise at once.
          const dumped = Promise.resolve(this.serde.dumpsTyped(value));
          blobs.push(dumped.then(([type, data]) => (isNothing(type, data) ? [] : [[channel, version, type, data]])));
        }
      }
      return { inline, blobs: (await Promise.all(blobs)).flat() };
    }

    /** What the tasks of the parent have sent, which checkpoints of old versions do not hold. */
    async #addSends(checkpoint: Checkpoint, { thread, ns, parent }: Saved): Promise<void> {
      const before: Saved | null = await this.#call(currentScope(), { op: "get", thread, ns, id: parent });
      const sends = (before?.writes ?? []).filter(([, , , channel]) => channel === TASKS).sort(byPlace);
      const versions = Object.values(checkpoint.channel_versions) as string[];
      checkpoint.channel_values[TASKS] = await Promise.all(sends.map(([, , , , ...typed]) => this.#value(...typed)));
      checkpoint.channel_versions[TASKS] =
        versions.length > 0 ? kit.maxChannelVersion(...versions) : this.getNextVersion(undefined);
    }

    /** A value that was written; undefined where JSON had nothing to say of it. */
    async #value(type: string, data: Buffer): Promise<unknown> {
      return isNothing(type, data) ? undefined : await this.serde.loadsTyped(type, data);
    }

    async #load(saved: Saved): Promise<CheckpointTuple> {
      const { lang, ...checkpoint } = JSON.parse(saved.checkpoint.toString());
      if (lang !== LANGUAGE) throw foreign(saved.thread);
      const values: Record<string, unknown> = checkpoint.channel_values;
      const blobs = saved.blobs.map(async ([channel, , type, data]) => {
        if (!isNothing(type, data)) values[channel] = await this.serde.loadsTyped(type, data);
      });
      const writes = [...saved.writes].sort(byPlace).map(async ([task, , , channel, type, data]) => {
        return [task, channel, await this.#value(type, data)] as [string, string, unknown];
      });
      await Promise.all(blobs);
      if (checkpoint.v < KEEPS_SENDS && saved.parent !== null) await this.#addSends(checkpoint, saved);
      const { thread, ns, id, parent } = saved;
      return {
        config: configOf(thread, ns, id),
        checkpoint,
        metadata: JSON.parse(saved.metadata.toString()),
        parentConfig: parent === null ? undefined : configOf(thread, ns, parent),
        pendingWrites: await Promise.all(writes),
      };
    }
  }
  return new HostSaver();
}

/** Upstream: the checkpoints of subgraphs say from which node they come, and name their parents. */
function within({ configurable, metadata }: RunnableConfig): object {
  return { ...metadata, checkpoint_map: configurable?.checkpoint_map };
}

function coordinates(config: RunnableConfig): { thread: string | undefined; ns: string; id: string | null } {
  const { thread_id, checkpoint_ns, checkpoint_id } = config.configurable ?? {};
  return {
    thread: thread_id === undefined || thread_id === null ? undefined : String(thread_id),
    ns: checkpoint_ns ?? "",
    id: checkpoint_id || null,
  };
}

function configOf(thread: string, ns: string, id: string): RunnableConfig {
  return { configurable: { thread_id: thread, checkpoint_ns: ns, checkpoint_id: id } };
}

/** Whether JSON keeps the value exactly and it is too small for a blob of its own. */
function isInline(value: unknown): boolean {
  if (value === null || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isSafeInteger(value);
  // What is not ASCII may be half of a pair, and PostgreSQL's jsonb can't hold U+0000.
  return typeof value === "string" && value.length < INLINE_STRING_LIMIT && /^[\x01-\x7f]*$/.test(value);
}

/** Whether JSON dropped the value: functions and symbols leave no text. */
function isNothing(type: string, data: Uint8Array): boolean {
  return type === "json" && data.length === 0;
}

function foreign(thread: string): ForeignThread {
  return new ForeignThread(
    `thread ${thread} was begun by a graph in Python, whose state a graph in JavaScript can't read; begin a new thread`,
  );
}

function byPlace(one: Saved["writes"][number], other: Saved["writes"][number]): number {
  return compare(one[1], other[1]) || compare(one[0], other[0]) || one[2] - other[2];
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function matches(metadata: CheckpointMetadata | undefined, filter: Record<string, unknown> | undefined): boolean {
  const known = (metadata ?? {}) as Record<string, unknown>;
  return Object.entries(filter ?? {}).every(([key, value]) => known[key] === value);
}
