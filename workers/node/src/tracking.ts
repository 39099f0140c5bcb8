// Knows which functions of a run are still going on. LangGraph gives up waiting for them as soon as a run is aborted,
// but they end by themselves or not at all.

import { thrownAsError } from "./failures.ts";
import type { Kit } from "./kit.ts";
import { currentScope } from "./scope.ts";

interface Callable {
  func?: (...args: unknown[]) => unknown;
  invoke(...args: unknown[]): unknown;
  stream(...args: unknown[]): unknown;
}

const tracked = new WeakSet<object>();

/**
 * Has the functions that graphs are made of be known to the run that calls them: those of nodes and tasks, of edges that
 * decide, of steps of chains, and of graphs that are called by others.
 */
export function trackFunctions({ StateGraph, Annotation, RunnableLambda }: Kit): void {
  const probe = new StateGraph(Annotation.Root({})).addNode("probe", () => ({}));
  const node = (probe.nodes as Record<string, { runnable: object }>)["probe"]?.runnable;
  for (const kind of [node?.constructor.prototype, RunnableLambda.prototype]) {
    for (const way of ["invoke", "stream"] as const) {
      const own: Callable[typeof way] | undefined = kind?.[way];
      if (own === undefined) continue;
      kind[way] = function (this: Callable, ...args: unknown[]) {
        track(this);
        return own.apply(this, args);
      };
    }
  }
}

function track(callable: Callable): void {
  const { func } = callable;
  // What writes to channels is LangGraph's own, and over at once.
  if (typeof func !== "function" || "writes" in callable || tracked.has(callable)) return;
  tracked.add(callable);
  callable.func = function (...args) {
    let result: unknown;
    try {
      result = func.apply(this, args);
    } catch (thrown) {
      throw thrownAsError(thrown);
    }
    if (!(result instanceof Promise)) return result;
    const told = result.catch((thrown) => {
      throw thrownAsError(thrown);
    });
    return currentScope().track(told);
  };
}
