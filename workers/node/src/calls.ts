// The host's calls: reading and changing thread state, schemas, drawings.

import type { Connection } from "./connection.ts";
import { HostError } from "./connection.ts";
import { drawing } from "./drawing.ts";
import { BadRequest, errorBody } from "./failures.ts";
import { UnknownGraph, type Use } from "./graphs.ts";
import type { Index } from "./index.ts";
import { toJson } from "./json.ts";
import type { ServerRuntime } from "./loading.ts";
import type { Project } from "./project.ts";
import { described, makeCommand, runnableConfig } from "./requests.ts";
import { ForeignThread } from "./saver.ts";
import { graphSchemas, subgraphSchemas } from "./schemas.ts";
import { Scope, within } from "./scope.ts";
import { coordinates, nextOf, openInterrupts, readState, threadState } from "./state.ts";

/** The host asked for an operation that this worker does not have. */
export class UnknownOperation extends Error {
  override name = "UnknownOperation";
}

export interface Call {
  op: string;
  graph: string | null;
  args: Buffer;
}

type Json = Record<string, any>;
type Operation = (use: Use, config: { configurable: Json } & Json, args: Json) => Promise<unknown>;

/** Carries out one `CALL` and replies to it; never fails. */
export async function answer(id: number, call: Call, project: Project, connection: Connection): Promise<void> {
  const scope = new Scope(id);
  try {
    connection.reply(id, toJson(await within(scope, () => result(call, project, scope))));
  } catch (thrown) {
    connection.replyError(id, { ...errorBody(thrown), status: status(thrown) });
  }
}

async function result({ op, graph, args }: Call, { graphs, index, auth }: Project, scope: Scope): Promise<unknown> {
  const said: Json = JSON.parse(args.toString());
  if (op === "embed") return await embed(said, index);
  if (auth !== undefined && (op === "authenticate" || op === "authorize")) return await auth.answer(op, said);
  const [operation, accessContext] = OPERATIONS[op] ?? [];
  if (operation === undefined || accessContext === undefined || graph === null) throw new UnknownOperation(`no operation \`${op}\``);
  const config = runnableConfig(said.config ?? {});
  config.configurable.graph_id ??= graph;
  scope.described = described(config);
  const use = await graphs.open(graph, config, { accessContext, executionRuntime: null });
  return await operation(use, config, said);
}

async function embed({ query, value, fields }: Json, index: Index | undefined): Promise<number[][]> {
  if (index === undefined) throw new UnknownOperation("nothing can be embedded: the project has no `store.index`");
  return query === undefined ? await index.ofTexts(index.texts(value, fields)) : [await index.ofQuery(query)];
}

const stateGet: Operation = async ({ graph }, config, args) => {
  const state = threadState(await graph.getState(config, { subgraphs: Boolean(args.subgraphs) }));
  if (!("checkpoint_ns" in config.configurable) && config.configurable.checkpoint_id) {
    // Upstream: a checkpoint asked for by its bare id is named without a namespace.
    delete state.checkpoint?.checkpoint_ns;
  }
  return state;
};

const stateHistory: Operation = async ({ graph }, config, args) => {
  const { filter, before, limit } = args;
  const options = {
    ...(filter ? { filter } : {}),
    ...(before ? { before: { configurable: { ...config.configurable, checkpoint_id: before } } } : {}),
    ...(limit === null || limit === undefined ? {} : { limit }),
  };
  const history = [];
  for await (const snapshot of graph.getStateHistory(config, options)) history.push(threadState(snapshot));
  return history;
};

const stateUpdate: Operation = async ({ graph }, config, args) => {
  const changed = await fitting("the update does not fit the graph", () =>
    graph.updateState(config, args.values, args.as_node ?? undefined),
  );
  return await written(graph, config, changed);
};

const stateReplay: Operation = async ({ graph, kit }, config, args) => {
  const changed = await fitting("the supersteps do not fit the graph", async () => {
    const supersteps = args.supersteps.map((superstep: Json) => ({
      updates: superstep.updates.map((update: Json) => ({
        values: update.command === undefined || update.command === null ? update.values : makeCommand(kit, update.command),
        asNode: update.as_node,
      })),
    }));
    return await graph.bulkUpdateState(config, supersteps);
  });
  return await written(graph, config, changed);
};

/** Runs what fails only because of what the caller has sent. */
async function fitting<T>(why: string, change: () => Promise<T>): Promise<T> {
  try {
    return await change();
  } catch (thrown) {
    if (thrown instanceof HostError || thrown instanceof ForeignThread) throw thrown;
    const { error, message } = errorBody(thrown);
    throw new BadRequest(`${why}: ${error}: ${message}`, { cause: thrown });
  }
}

async function written(graph: Use["graph"], config: { configurable: Json }, changed: Json): Promise<unknown> {
  const snapshot = await readState(graph, config.configurable.thread_id);
  return {
    config: { configurable: coordinates(changed) },
    state: threadState(snapshot),
    interrupts: openInterrupts(snapshot),
    next: nextOf(snapshot).length > 0,
  };
}

function status(thrown: unknown): number | null {
  if (thrown instanceof UnknownGraph) return 404;
  const atFault = thrown instanceof BadRequest || thrown instanceof ForeignThread;
  const name = (thrown as Error | undefined)?.name ?? "";
  return atFault || ["InvalidUpdateError", "EmptyInputError"].includes(name) ? 400 : null;
}

const schemas: Operation = async ({ graph, kit }, config) => ({
  graph_id: config.configurable.graph_id,
  ...graphSchemas(graph, kit),
});

const draw: Operation = async (use, config, args) => await drawing(use.graph, config, args.xray || false);

const subgraphs: Operation = async ({ graph, kit }, _, args) =>
  await subgraphSchemas(graph, kit, args.namespace ?? undefined, Boolean(args.recurse));

type Access = Exclude<ServerRuntime["accessContext"], "threads.create_run">;

/** Every operation, and what factories are told that their graph is for. */
const OPERATIONS: Record<string, [Operation, Access]> = {
  state_get: [stateGet, "threads.read"],
  state_history: [stateHistory, "threads.read"],
  state_update: [stateUpdate, "threads.update"],
  state_replay: [stateReplay, "threads.update"],
  schemas: [schemas, "assistants.read"],
  draw: [draw, "assistants.read"],
  subgraphs: [subgraphs, "assistants.read"],
};
