// Keeps a note in the store of the server, where graphs in any language find it.
import { type LangGraphRunnableConfig, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

const State = new StateSchema({ topic: z.string(), note: z.string(), kept: z.boolean().optional() });

export const graph = new StateGraph(State)
  .addNode("keep", async ({ topic, note }, { store }: LangGraphRunnableConfig) => {
    await store?.put(["notes", topic], note, { note, by: "TypeScript" });
    return { kept: true };
  })
  .addEdge(START, "keep")
  .compile();
