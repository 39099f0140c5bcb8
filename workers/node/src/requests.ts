// What clients ask, in the words of LangGraph for JavaScript.

import { BadRequest } from "./failures.ts";
import type { Kit } from "./kit.ts";

type Json = Record<string, any>;

/** The keys of a RunnableConfig that JavaScript spells otherwise. */
const CONFIG_KEYS: Record<string, string> = {
  recursion_limit: "recursionLimit",
  max_concurrency: "maxConcurrency",
  run_name: "runName",
};
const UNDESCRIBED = new Set(["thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"]);
const COMMAND_KEYS = ["resume", "update", "goto", "graph"];

/** A RunnableConfig. */
export function runnableConfig(config: Json): { configurable: Json } & Json {
  const spelled = Object.entries(config).map(([key, value]) => [CONFIG_KEYS[key] ?? key, value]);
  return { ...Object.fromEntries(spelled), configurable: { ...config.configurable } };
}

/** What checkpoints say of who made them: metadata, and what of the configuration is short and not of langgraph. */
export function described({ configurable, metadata }: Json): Json {
  const short = Object.entries(configurable as Json).filter(
    ([key, value]) =>
      ["string", "number", "boolean"].includes(typeof value) && !UNDESCRIBED.has(key) && !key.startsWith("__"),
  );
  return { ...Object.fromEntries(short), ...metadata };
}

/** The `command` of a request; null when it says nothing. */
export function makeCommand(kit: Kit, command: Json): unknown {
  // LangGraph for JavaScript says of its own objects what they are.
  const said = Object.entries(command).filter(([key, value]) => value !== null && key !== "lg_name");
  const unknown = said.find(([key]) => !COMMAND_KEYS.includes(key));
  if (unknown !== undefined) throw new BadRequest(`a command has no \`${unknown[0]}\`; it has ${COMMAND_KEYS.join(", ")}`);
  if (said.length === 0) return null;
  const { goto, ...rest } = Object.fromEntries(said);
  if (goto === undefined) return new kit.Command(rest);
  return new kit.Command({ ...rest, goto: Array.isArray(goto) ? goto.map((it) => target(kit, it)) : target(kit, goto) });
}

function target(kit: Kit, goto: any): any {
  if (typeof goto !== "object" || goto === null) return goto;
  // The API says `input`, LangGraph for JavaScript `args`.
  return new kit.Send(goto.node, goto.input ?? goto.args);
}
