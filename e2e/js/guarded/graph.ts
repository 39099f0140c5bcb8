// A graph that tells who called it.
import { type LangGraphRunnableConfig, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

export const graph = new StateGraph(new StateSchema({ user: z.record(z.string(), z.any()).optional() }))
  .addNode("look", async (_, { configurable }: LangGraphRunnableConfig) => {
    const { identity, display_name, permissions, role } = configurable?.langgraph_auth_user ?? {};
    return { user: { identity, display_name, permissions, role } };
  })
  .addEdge(START, "look")
  .compile();
