// A graph that takes its time, for tests that stop it.
import { setTimeout } from "node:timers/promises";

import { AIMessage } from "@langchain/core/messages";
import { type LangGraphRunnableConfig, MessagesValue, START, StateGraph, StateSchema } from "@langchain/langgraph";

export const slow = new StateGraph(new StateSchema({ messages: MessagesValue }))
  .addNode("wait", async (_, { signal }: LangGraphRunnableConfig) => {
    await setTimeout(3_600_000, undefined, { signal });
    return { messages: [new AIMessage("at last")] };
  })
  .addEdge(START, "wait");
