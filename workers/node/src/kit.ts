// The project's own copies of LangGraph: a graph, its checkpointer and its store have to be of one kind.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import type * as runnables from "@langchain/core/runnables";
import type * as checkpoint from "@langchain/langgraph-checkpoint";
import type * as langgraph from "@langchain/langgraph";
import type * as pregel from "@langchain/langgraph/pregel";
import type * as schemas from "@langchain/langgraph/zod/schema";

/** What the worker uses of one of them. */
export interface Kit {
  BaseCheckpointSaver: typeof checkpoint.BaseCheckpointSaver;
  BaseStore: typeof checkpoint.BaseStore;
  AsyncBatchedStore: typeof checkpoint.AsyncBatchedStore | undefined;
  WRITES_IDX_MAP: typeof checkpoint.WRITES_IDX_MAP;
  maxChannelVersion: typeof checkpoint.maxChannelVersion;
  Pregel: typeof pregel.Pregel;
  StateGraph: typeof langgraph.StateGraph;
  Annotation: typeof langgraph.Annotation;
  Command: typeof langgraph.Command;
  Send: typeof langgraph.Send;
  messagesStateReducer: typeof langgraph.messagesStateReducer;
  RunnableLambda: typeof runnables.RunnableLambda;
  /** What makes schemas; older versions of LangGraph have it not. */
  schemas: typeof schemas | undefined;
}

/** The project has no LangGraph, or none that the worker can use. */
export class MissingLangGraph extends Error {
  override name = "MissingLangGraph";
}

const LANGGRAPH = "@langchain/langgraph";
const CHECKPOINT = "@langchain/langgraph-checkpoint";
const CORE = "@langchain/core";

/** The copies that the project's graphs are made of, each loaded once. */
export class Kits {
  readonly #loaded = new Map<string, Promise<Kit>>();

  /** The copy that code in a folder uses, and a graph of it is made of: as a CommonJS module or as an ES module. */
  async of(folder: string, graph: unknown): Promise<Kit> {
    const langgraph = packageFolder(LANGGRAPH, folder);
    if (langgraph === undefined) {
      const why = `\`${LANGGRAPH}\` is not installed for ${folder}`;
      throw new MissingLangGraph(`${why}; run \`npm install\` (or pnpm, or yarn) there`);
    }
    if (isRequired(langgraph, ".")) {
      const required = await this.#load(langgraph, folder, true);
      const isForeign = (graph as any)?.lg_is_pregel === true && !(graph instanceof required.Pregel);
      if (!isForeign) return required;
    }
    return await this.#load(langgraph, folder, false);
  }

  #load(langgraph: string, project: string, required: boolean): Promise<Kit> {
    const place = `${langgraph} ${required}`;
    const loaded = this.#loaded.get(place) ?? loadKit(langgraph, project, required);
    this.#loaded.set(place, loaded);
    return loaded;
  }
}

async function loadKit(folder: string, project: string, required: boolean): Promise<Kit> {
  const { StateGraph, Annotation, Command, Send, messagesStateReducer } = await load<typeof langgraph>(folder, ".", required);
  const { Pregel } = await load<typeof pregel>(folder, "./pregel", required);
  // Strict package managers let only LangGraph itself see what it depends on.
  const below = (name: string) => {
    const found = packageFolder(name, folder) ?? packageFolder(name, project);
    if (found !== undefined) return found;
    throw new MissingLangGraph(`\`${name}\`, which goes with \`${LANGGRAPH}\` 0.2 or newer, is not installed for ${project}`);
  };
  const saving = await load<typeof checkpoint>(below(CHECKPOINT), ".", required);
  const { RunnableLambda } = await load<typeof runnables>(below(CORE), "./runnables", required);
  const made = await load<typeof schemas>(folder, "./zod/schema", required).catch(() => undefined);
  const graphs = { Pregel, StateGraph, Annotation, Command, Send, messagesStateReducer };
  return { ...saving, ...graphs, RunnableLambda, schemas: made };
}

async function load<T>(folder: string, entry: string, required: boolean): Promise<T> {
  const { exports } = manifest(folder);
  if (required) return createRequire(join(folder, "package.json"))(join(folder, target(exports[entry]!.require)));
  return await import(pathToFileURL(join(folder, target(exports[entry]!.import))).href);
}

/** Whether somebody has loaded a package as a CommonJS module. */
function isRequired(folder: string, entry: string): boolean {
  const require = createRequire(join(folder, "package.json"));
  return join(folder, target(manifest(folder).exports[entry]!.require)) in require.cache;
}

function manifest(folder: string): { exports: Record<string, Record<"require" | "import", string | { default: string }>> } {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

function target(entry: string | { default: string }): string {
  return typeof entry === "string" ? entry : entry.default;
}

/** The folder of an installed package, as seen from a folder. */
export function packageFolder(name: string, from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return realFolder(candidate);
    if (dirname(folder) === folder) return undefined;
  }
}

function realFolder(folder: string): string {
  return dirname(createRequire(join(folder, "package.json")).resolve("./package.json"));
}
