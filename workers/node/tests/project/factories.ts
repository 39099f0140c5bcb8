// Factories of graphs for the tests.

import type { RunnableConfig } from "@langchain/core/runnables";
import { Annotation, START, StateGraph } from "@langchain/langgraph";

import { Counter, counter, counterBuilder } from "./graphs.ts";

const Told = Annotation.Root({ told: Annotation<unknown[]> });

export function plain() {
  return counter;
}

export async function asynchronous(config: RunnableConfig) {
  return new StateGraph(Counter)
    .addNode("say", async () => ({ count: 3, log: [config.configurable?.word] }))
    .addEdge(START, "say")
    .compile();
}

/** What it has been told at every call. */
const told: unknown[] = [];

export async function informed(_: RunnableConfig, runtime: { accessContext: string }) {
  told.push(runtime);
  return new StateGraph(Told)
    .addNode("tell", async () => ({ told: [...told] }))
    .addEdge(START, "tell")
    .compile();
}

export const ofBuilder = () => counterBuilder;

export function wrong() {
  return "no graph";
}
