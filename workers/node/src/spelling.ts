// What LangGraph for JavaScript streams of checkpoints, tasks and interrupts, spelled as the API spells it.

import { coordinates, withMap } from "./state.ts";

type Json = Record<string, any>;

export const INTERRUPT = "__interrupt__";
/** What LangGraph hands down to subgraphs in their configuration. */
const INTERNAL = "__pregel_";

/** A chunk of a mode as the API shows it. */
export function shown(mode: string, chunk: any): unknown {
  if (mode === "updates") return chunk?.[INTERRUPT] === undefined ? chunk : { ...chunk, [INTERRUPT]: interruptsOf(chunk) };
  if (mode === "checkpoints") return checkpoint(chunk);
  if (mode === "tasks") return task(chunk);
  if (mode !== "debug") return chunk;
  return { ...chunk, payload: chunk.type === "checkpoint" ? debugCheckpoint(chunk.payload) : task(chunk.payload) };
}

/** The interrupts that a chunk tells of. */
export function interruptsOf(chunk: any): Json[] | undefined {
  return chunk?.[INTERRUPT]?.map(interrupt);
}

function interrupt(told: Json): Json {
  return { response_schema: null, ...told };
}

function checkpoint({ config, parentConfig, tasks, ...rest }: Json): Json {
  return {
    ...rest,
    config: plainConfig(config, rest.metadata),
    parent_config: parentConfig === undefined ? null : plainConfig(parentConfig, rest.metadata),
    tasks: tasks.map(({ path: _, ...waiting }: Json) => ({ state: null, ...task(waiting, true) })),
  };
}

function debugCheckpoint(payload: Json): Json {
  const { config, parent_config, tasks, ...rest } = checkpoint(payload);
  return {
    ...rest,
    config,
    parent_config,
    checkpoint: coordinates(config),
    parent_checkpoint: coordinates(parent_config),
    tasks: tasks.map(({ state, ...waiting }: Json) =>
      state === null ? { ...waiting, state } : { ...waiting, checkpoint: state.configurable },
    ),
  };
}

/** Of a configuration what clients may know and can use. */
function plainConfig({ configurable }: Json, metadata: Json | undefined): Json {
  const known = Object.entries(configurable).filter(([key]) => !key.startsWith(INTERNAL));
  return { configurable: withMap(Object.fromEntries(known), metadata) };
}

/** A task that begins, has ended, or `waits` in a checkpoint. */
function task({ error, interrupts, ...rest }: Json, waits = false): Json {
  const failed = error === undefined ? {} : { error: error === null ? null : { error: error.name, message: error.message } };
  const asked = waits || "result" in rest ? { interrupts: interrupts.map(interrupt) } : {};
  return { ...rest, ...failed, ...asked };
}
