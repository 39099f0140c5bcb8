// Factories of graphs for the tests.

import type { RunnableConfig } from "@langchain/core/runnables";
import { START, StateGraph } from "@langchain/langgraph";

import { Counter, counter, counterBuilder } from "./graphs.ts";

export function plain() {
  return counter;
}

export async function asynchronous(config: RunnableConfig) {
  return new StateGraph(Counter)
    .addNode("say", async () => ({ count: 3, log: [config.configurable?.word] }))
    .addEdge(START, "say")
    .compile();
}

export const ofBuilder = () => counterBuilder;

export function wrong() {
  return "no graph";
}
