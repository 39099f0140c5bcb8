// The project's graphs, each ready for use with the host's checkpointer and store attached.

import { dirname } from "node:path";

import type { BaseCheckpointSaver, BaseStore } from "@langchain/langgraph-checkpoint";

import { type ErrorBody, errorBody } from "./failures.ts";
import { type Kit, Kits } from "./kit.ts";
import { type Factory, type Graph, type ServerRuntime, fileOf, loadGraph, madeGraph } from "./loading.ts";
import { trackFunctions } from "./tracking.ts";
import { watched } from "./watched.ts";

/** The host named a graph that this worker does not have. */
export class UnknownGraph extends Error {
  override name = "UnknownGraph";
}

/** The graph could not be imported. */
export class UnavailableGraph extends Error {
  override name = "UnavailableGraph";
}

/** A graph attached for one use. */
export interface Use {
  graph: Graph;
  /** The copy of LangGraph that it is made of. */
  kit: Kit;
  /** Whether the last `values` event is the whole state, so that nothing has to be read back after a run. */
  plainState: boolean;
}

export type LoadReport = Record<string, { ok: true } | { ok: false; error: ErrorBody }>;

/** Channels whose value stays in the checkpoint exactly as a run streams it. */
const PLAIN_CHANNELS = new Set(["LastValue", "BinaryOperatorAggregate"]);

/** What keeps the state of graphs that are made of one copy of LangGraph. */
export interface Storage {
  saver: BaseCheckpointSaver<any>;
  store: BaseStore;
}

interface Loaded {
  path: string;
  value: Graph | Factory;
}

/** Every graph of the project by id. */
export class Graphs {
  readonly #project: string;
  readonly #kits = new Kits();
  readonly #loaded = new Map<string, Loaded>();
  readonly #failed = new Map<string, ErrorBody>();
  readonly #attached = new Map<string, Use>();
  readonly #storages = new Map<Kit, Storage>();
  readonly #warned = new Set<string>();
  #storage: ((kit: Kit) => Storage) | undefined;

  constructor(project: string) {
    this.#project = project;
  }

  /** Imports all. One that can't be imported leaves the others alone. */
  async load(graphs: Record<string, { path: string }>): Promise<void> {
    for (const [id, { path }] of Object.entries(graphs)) {
      await this.#try(id, async () => {
        const value = await watched(`graph \`${id}\` (\`${path}\`)`, () => loadGraph(path, this.#project));
        this.#loaded.set(id, { path, value });
      });
    }
  }

  /** Gives all graphs the checkpointer and store of this worker. Says of each whether it can be run, as `READY` does. */
  async attach(storage: (kit: Kit) => Storage): Promise<LoadReport> {
    this.#storage = storage;
    for (const [id, loaded] of this.#loaded) {
      if (typeof loaded.value === "function") continue;
      const graph = loaded.value;
      await this.#try(id, async () => void this.#attached.set(id, await this.#use(id, loaded, graph)));
    }
    const ids = [...this.#loaded.keys(), ...this.#failed.keys()];
    const outcome = (error: ErrorBody | undefined) => (error === undefined ? { ok: true } : { ok: false, error });
    return Object.fromEntries(ids.map((id) => [id, outcome(this.#failed.get(id))])) as LoadReport;
  }

  /** The graph, made for this use when it comes from a factory. */
  async open(id: string, config: Record<string, unknown>, runtime: ServerRuntime): Promise<Use> {
    const use = this.#attached.get(id);
    if (use !== undefined) return use;
    const failure = this.#failed.get(id);
    if (failure !== undefined) {
      throw new UnavailableGraph(`graph \`${id}\` could not be loaded: ${failure.error}: ${failure.message}`);
    }
    const known = this.#loaded.get(id);
    if (known === undefined) throw new UnknownGraph(`graph \`${id}\` is not loaded in this worker`);
    const make = known.value as Factory;
    return await this.#use(id, known, madeGraph(await make(config, runtime), known.path));
  }

  async #try(id: string, what: () => Promise<void>): Promise<void> {
    try {
      await what();
    } catch (thrown) {
      this.#failed.set(id, errorBody(thrown));
    }
  }

  async #use(id: string, { path }: Loaded, graph: Graph): Promise<Use> {
    if (typeof graph.checkpointer === "object" && !this.#warned.has(id)) {
      this.#warned.add(id);
      const own = graph.checkpointer.constructor.name;
      console.warn(
        `graph \`${id}\` is compiled with a checkpointer of its own (${own}); ` +
          "the server's is used instead, so it can be left out",
      );
    }
    const kit = await this.#kits.of(dirname(fileOf(path, this.#project)), graph);
    const { saver, store } = this.#of(kit);
    // The graph itself may be a node of another one, where it has no checkpointer of its own.
    const attached = graph.withConfig({}) as Graph;
    attached.checkpointer = saver;
    attached.store = store;
    if (attached.name === undefined || attached.name === "LangGraph") attached.name = id;
    return { graph: attached, kit, plainState: isPlain(attached) };
  }

  #of(kit: Kit): Storage {
    const known = this.#storages.get(kit);
    if (known !== undefined) return known;
    if (this.#storage === undefined) throw new Error("graphs are used before they are attached");
    trackFunctions(kit);
    const made = this.#storage(kit);
    this.#storages.set(kit, made);
    return made;
  }
}

/** Whether the output is the whole state and stays in the checkpoint exactly as a run streams it. */
function isPlain(graph: Graph): boolean {
  const state = graph.streamChannelsAsIs;
  const output = graph.outputChannels;
  if (!Array.isArray(state) || !Array.isArray(output)) return false;
  if (state.length !== output.length || !state.every((name) => output.includes(name))) return false;
  return state.every((name) => PLAIN_CHANNELS.has((graph.channels[name] as { lc_graph_name?: string }).lc_graph_name ?? ""));
}
