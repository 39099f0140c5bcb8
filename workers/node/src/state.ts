// Thread state as the API shows it, made from langgraph's snapshots or from what a run has just written.

import type { StateSnapshot } from "@langchain/langgraph";

import { toJsonText } from "./json.ts";
import type { Graph } from "./loading.ts";
import type { Checkpointed } from "./scope.ts";

type Config = { configurable?: Record<string, any> };
type Task = StateSnapshot["tasks"][number];
type Interrupt = { id?: string; value?: unknown };

/** The newest state of a thread. */
export async function readState(graph: Graph, thread: string): Promise<StateSnapshot> {
  return await graph.getState({ configurable: { thread_id: thread, checkpoint_ns: "" } });
}

/** A snapshot as `GET /threads/{id}/state` answers it. */
export function threadState(snapshot: StateSnapshot): Record<string, any> {
  const checkpoint = coordinates(snapshot.config);
  const parent = coordinates(withParents(snapshot.parentConfig, snapshot.metadata));
  return {
    values: snapshot.values,
    next: nextOf(snapshot),
    tasks: snapshot.tasks.map(shownTask),
    metadata: snapshot.metadata ?? null,
    created_at: snapshot.createdAt ?? null,
    checkpoint,
    parent_checkpoint: parent,
    interrupts: snapshot.tasks.flatMap(waitingFor),
    checkpoint_id: checkpoint?.checkpoint_id ?? null,
    parent_checkpoint_id: parent?.checkpoint_id ?? null,
  };
}

/** The state after a run that left nothing to do, without reading it back. */
export function finishedState(thread: string, values: string, last: Checkpointed): Buffer {
  const place = (id: string) => ({ thread_id: thread, checkpoint_ns: "", checkpoint_id: id });
  const rest = {
    next: [],
    tasks: [],
    created_at: last.createdAt,
    checkpoint: place(last.id),
    parent_checkpoint: last.parent === null ? null : place(last.parent),
    interrupts: [],
    checkpoint_id: last.id,
    parent_checkpoint_id: last.parent,
  };
  return Buffer.from(`{"values":${values},"metadata":${toJsonText(last.metadata)},${toJsonText(rest).slice(1)}`);
}

/** The nodes that are to run: LangGraph leaves out those that have an answer and ask again. */
export function nextOf({ next, tasks }: StateSnapshot): string[] {
  const waiting = tasks.filter((task) => waitingFor(task).length > 0 && !next.includes(task.name));
  return [...next, ...waiting.map((task) => task.name)];
}

/** The interrupts that wait for an answer, by task. */
export function openInterrupts(snapshot: StateSnapshot): Record<string, Interrupt[]> {
  const asked = snapshot.tasks.map((task) => [task.id, waitingFor(task)] as const);
  return Object.fromEntries(asked.filter(([, interrupts]) => interrupts.length > 0));
}

/** The checkpoint a config names; null when it names none. */
export function coordinates(config: Config | undefined): Record<string, any> | null {
  const configurable = config?.configurable;
  if (!configurable?.checkpoint_id) return null;
  const keys = ["thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map"];
  return Object.fromEntries(keys.filter((key) => key in configurable).map((key) => [key, configurable[key]]));
}

/** Where a checkpoint of a subgraph is: it can be found only together with those of the graphs around it. */
export function withMap(configurable: Record<string, any>, metadata: Record<string, any> | undefined): Record<string, any> {
  const { parents = {} } = metadata ?? {};
  const { checkpoint_ns, checkpoint_id } = configurable;
  if (Object.keys(parents).length === 0) return configurable;
  return { ...configurable, checkpoint_map: { ...parents, [checkpoint_ns]: checkpoint_id } };
}

function withParents(config: Config | undefined, metadata: StateSnapshot["metadata"]): Config | undefined {
  return config?.configurable && { configurable: withMap(config.configurable, metadata) };
}

function shownTask(task: Task): Record<string, unknown> {
  const state = task.state as StateSnapshot | Config | undefined;
  const nested = state !== undefined && "values" in state;
  return {
    id: task.id,
    name: task.name,
    path: task.path ?? [],
    error: shownError(task.error),
    interrupts: (task.interrupts as Interrupt[]).map(shownInterrupt),
    checkpoint: state !== undefined && !nested ? (state as Config).configurable : null,
    state: nested ? threadState(state) : null,
    result: (task as { result?: unknown }).result ?? null,
  };
}

/** The interrupts of a task that nobody has answered: with its result they stay where they were written. */
function waitingFor(task: Task): Interrupt[] {
  if ((task as { result?: unknown }).result !== undefined) return [];
  return (task.interrupts as Interrupt[]).map(shownInterrupt);
}

function shownInterrupt({ id, value }: Interrupt): Interrupt {
  return { id, value };
}

function shownError(error: unknown): unknown {
  const { name, message } = (error ?? {}) as { name?: string; message?: string };
  return name !== undefined && message !== undefined ? `${name}: ${message}` : (error ?? null);
}
