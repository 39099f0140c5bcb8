// Custom events out of a subgraph; the graph is made by a factory that reads the run's config.
import type { RunnableConfig } from "@langchain/core/runnables";
import { getWriter, ReducedValue, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

const State = new StateSchema({
  done: new ReducedValue(z.array(z.string()).default(() => []), { reducer: (all, more) => [...all, ...more] }),
});

export function makeGraph(config: RunnableConfig) {
  const steps = Number(config.configurable?.steps ?? 2);

  const inner = new StateGraph(State)
    .addNode("work", async () => {
      const write = getWriter();
      for (let step = 1; step <= steps; step += 1) write?.({ step, of: steps });
      return { done: ["work"] };
    })
    .addEdge(START, "work");

  return new StateGraph(State).addNode("inner", inner.compile()).addEdge(START, "inner").compile();
}
