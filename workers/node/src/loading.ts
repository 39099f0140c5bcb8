// Imports what langgraph.json names and sorts it into graphs and factories of graphs.

import { createHash, randomUUID } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import type { Pregel } from "@langchain/langgraph";

export type Graph = Pregel<any, any>;
/** What a factory is told of the use that its graph is for, as the type of this name in LangGraph's SDK has it. */
export type ServerRuntime =
  | { accessContext: "threads.create_run"; executionRuntime: { context: unknown } }
  | { accessContext: "assistants.read" | "threads.read" | "threads.update"; executionRuntime: null };
/** A function that makes a graph; called for every use. */
export type Factory = (config: Record<string, unknown>, runtime: ServerRuntime) => unknown;

/** The name in langgraph.json does not lead to something that can be run as a graph. */
export class GraphLoadError extends Error {
  override name = "GraphLoadError";
}

const OWN_FOLDER = fileURLToPath(new URL(".", import.meta.url));
const DEFAULT = "default";
/** The classes of graphs that don't say so of themselves yet. */
const OLD_GRAPH = /^Compiled(State)?Graph$/;
/** What the compiler says of a module that can't be one. */
const TOP_LEVEL_AWAIT = /Top-level await is currently not supported with the "cjs" output format/;
/** How far the times of files may lie behind the clock. */
const CLOCK_TICK_MS = 20;

/** Imports `./file.ts:name` and tells what it is. */
export async function loadGraph(path: string, project: string): Promise<Graph | Factory> {
  const value = await loadName(path, project);
  const graph = asGraph(value);
  if (graph !== undefined) return graph;
  if (typeof value === "function") return value as Factory;
  if (OLD_GRAPH.test((value as object | null)?.constructor?.name ?? "")) {
    throw new GraphLoadError(`\`${path}\` is made by a LangGraph that is too old; install \`@langchain/langgraph\` 0.2 or newer`);
  }
  throw new GraphLoadError(`\`${path}\` is ${kindOf(value)}; expected a graph, a graph builder, or a function`);
}

/** What `./file.ts:name` leads to; without a name, the default export. */
export async function loadName(path: string, project: string): Promise<unknown> {
  const [source, name] = parts(path);
  if (source === "" || name === "") throw new GraphLoadError(`\`${path}\` is not of the form \`./file.ts:name\``);
  const file = fileOf(path, project);
  if (!existsSync(file) || !statSync(file).isFile()) {
    throw new GraphLoadError(`\`${source}\` does not exist in the project`);
  }
  const exported = exports(await imported(file));
  if (!(name in exported)) {
    throw new GraphLoadError(`\`${source}\` exports no \`${name}\`; it exports ${suggestions(exported)}`);
  }
  return await exported[name];
}

/** The file of `./file.ts:name`. */
export function fileOf(path: string, project: string): string {
  return resolve(project, parts(path)[0]);
}

function parts(path: string): [source: string, name: string] {
  const colon = path.lastIndexOf(":");
  return colon < 0 ? [path, DEFAULT] : [path.slice(0, colon), path.slice(colon + 1)];
}

async function imported(file: string): Promise<Record<string, any>> {
  try {
    return await import(pathToFileURL(file).href);
  } catch (thrown) {
    if (!TOP_LEVEL_AWAIT.test(String((thrown as Error | undefined)?.message))) throw thrown;
    const way = 'add `"type": "module"` to its package.json, or give the file the ending `.mts`';
    throw new GraphLoadError(`\`${file}\` awaits at its top level, which a CommonJS module can't; ${way}`, { cause: thrown });
  }
}

/** A compiled graph as it is, an agent's graph, a builder compiled; undefined for anything else. */
export function asGraph(value: unknown): Graph | undefined {
  const candidate = value as any;
  if (candidate?.lg_is_pregel === true) return candidate;
  if (candidate?.graph?.lg_is_pregel === true) return candidate.graph;
  if (typeof candidate === "object" && typeof candidate?.compile === "function") return candidate.compile();
  return undefined;
}

/** The graph that a factory made. */
export function madeGraph(value: unknown, path: string): Graph {
  const graph = asGraph(value);
  if (graph === undefined) {
    throw new GraphLoadError(`the factory \`${path}\` returned ${kindOf(value)}; expected a graph`);
  }
  return graph;
}

/** The project's own files among those that are loaded now: what other packages consist of does not change. */
export function ownSources(imported: Iterable<string>): string[] {
  const required = Object.keys(createRequire(import.meta.url).cache);
  const own = new Set([...imported, ...required].map((file) => file.split("?")[0]));
  const foreign = (file: string) => file.includes(`${sep}node_modules${sep}`) || file.startsWith(OWN_FOLDER);
  return [...own].filter((file) => !foreign(file)).sort();
}

/** A hash over source files that were loaded since some time, in milliseconds. */
export function revision(sources: string[], project: string, since: number): string {
  const digest = createHash("sha256");
  for (const file of sources) {
    digest.update(`${relative(project, file)}\0`);
    if (!existsSync(file)) continue;
    digest.update(readFileSync(file));
    // Nobody knows whether it was loaded as it is now, so that what loads it again must not pass for the same.
    if (statSync(file).mtimeMs > since - CLOCK_TICK_MS) digest.update(randomUUID());
  }
  return digest.digest("hex").slice(0, 32);
}

/** The exports of a module by name. Those of a CommonJS module come as its default export. */
function exports(module: Record<string, any>): Record<string, unknown> {
  const whole = module.default;
  const wrapped = whole !== null && typeof whole === "object" && whole.lg_is_pregel !== true;
  if (!wrapped) return module;
  return { ...whole, ...module, ...(whole.__esModule === true ? { default: whole.default } : {}) };
}

function suggestions(exported: Record<string, unknown>): string {
  const names = Object.keys(exported).filter((name) => name !== "__esModule" && name !== "module.exports");
  const graphs = names.filter((name) => (exported[name] as any)?.lg_is_pregel === true);
  return (graphs.length > 0 ? graphs : names).map((name) => `\`${name}\``).join(", ") || "nothing";
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  const name = (value as object).constructor?.name;
  return typeof value === "object" && name ? `an object of the class \`${name}\`` : `a ${typeof value}`;
}
