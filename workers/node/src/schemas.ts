// What a graph looks like from outside: JSON schemas of it and of its subgraphs.

import type { Kit } from "./kit.ts";
import type { Graph } from "./loading.ts";

type Json = Record<string, any>;

/** The one channel of a graph whose state has no keys. */
const ROOT = "__root__";

const UNKNOWN = { input_schema: null, output_schema: null, state_schema: null, config_schema: {}, context_schema: null };

/** The schemas of input, output, state, configuration and context. One that can't be made is null. */
export function graphSchemas(graph: Graph, kit: Kit): Json {
  const { schemas } = kit;
  // What a graph of another server takes is known there.
  if (graph.channels === undefined) return { ...UNKNOWN };
  const context = made(graph, "context", () => schemas?.getConfigTypeSchema(graph));
  const of = (what: string, told: (() => Json | undefined) | undefined, channels: string | string[]) =>
    made(graph, what, () => titled(graph, what, told?.())) ?? ofChannels(graph, what, channels, kit);
  return {
    input_schema: of("Input", () => schemas?.getInputTypeSchema(graph), inputKeys(graph)),
    output_schema: of("Output", () => schemas?.getOutputTypeSchema(graph), keys(graph.outputChannels)),
    state_schema: of("State", () => schemas?.getStateTypeSchema(graph), keys(graph.streamChannelsAsIs)),
    config_schema: context ?? {},
    context_schema: context,
  };
}

/** The schemas of the subgraphs by name. */
export async function subgraphSchemas(
  graph: Graph,
  kit: Kit,
  namespace: string | undefined,
  recurse: boolean,
): Promise<Json> {
  const schemas: Json = {};
  for await (const [name, subgraph] of graph.getSubgraphsAsync(namespace, recurse)) {
    schemas[name] = graphSchemas(subgraph as Graph, kit);
  }
  return schemas;
}

function made(graph: Graph, what: string, make: () => Json | undefined): Json | null {
  try {
    return make() ?? null;
  } catch (thrown) {
    // State may hold types that have no schema; the graph runs all the same.
    console.warn(`the ${what.toLowerCase()} schema of graph \`${graph.getName()}\` can't be made:`, thrown);
    return null;
  }
}

function titled(graph: Graph, what: string, schema: Json | undefined): Json | undefined {
  return schema === undefined ? undefined : { title: `${graph.getName()}${what}`, ...schema };
}

/** What is known of a state that is declared by types only: they are gone by the time the graph runs. */
function ofChannels(graph: Graph, what: string, names: string | string[], kit: Kit): Json | undefined {
  const of = (name: string) => ofChannel(graph.channels[name], kit);
  if (typeof names === "string") return { title: `${graph.getName()}${what}`, ...of(names) };
  const properties = Object.fromEntries(names.map((name) => [name, { title: titleOf(name), ...of(name) }]));
  return { title: `${graph.getName()}${what}`, type: "object", properties };
}

function ofChannel(channel: unknown, kit: Kit): Json {
  const { operator } = channel as { operator?: unknown };
  if (operator === undefined || operator !== kit.messagesStateReducer) return {};
  return { type: "array", items: { type: "object" }, langgraph_type: "messages" };
}

/** The keys of the input: the first node to run is the one that takes them apart. */
function inputKeys(graph: Graph): string | string[] {
  const builder = (graph as { builder?: { _inputDefinition?: Json } }).builder;
  const declared = builder?._inputDefinition;
  return declared === undefined ? keys(graph.streamChannelsAsIs) : keys(Object.keys(declared));
}

function keys(channels: unknown): string | string[] {
  const names = channels as string | string[];
  return names.includes(ROOT) ? ROOT : names;
}

function titleOf(name: string): string {
  return name.replace(/(^|_)([a-z])/g, (_, space, letter) => `${space && " "}${letter.toUpperCase()}`);
}
