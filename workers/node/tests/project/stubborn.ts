// Code that does not listen when its run is stopped, in every place where a graph may call code.

import { RunnableLambda } from "@langchain/core/runnables";
import { Annotation, START, END, StateGraph, entrypoint, task } from "@langchain/langgraph";

import { letGo } from "./gate.ts";

const State = Annotation.Root({ x: Annotation<number>, until: Annotation<string> });

async function stubborn({ until }: { until: string }): Promise<{ x: number }> {
  console.log("the stubborn code has begun");
  await letGo(until);
  console.log(`the stubborn code has ended at ${Date.now()}`);
  return { x: 1 };
}

const work = task("work", stubborn);
export const ofTasks = entrypoint("ofTasks", async (input: { until: string }) => await work(input));

export const chain = new StateGraph(State)
  .addNode("chain", RunnableLambda.from(stubborn).pipe(({ x }: { x: number }) => ({ x })))
  .addEdge(START, "chain")
  .compile();

export const edge = new StateGraph(State)
  .addNode("node", () => ({ x: 1 }))
  .addEdge(START, "node")
  .addConditionalEdges("node", async (state) => {
    await stubborn(state);
    return END;
  })
  .compile();

const inner = new StateGraph(State).addNode("inner", stubborn).addEdge(START, "inner").compile();
export const invoked = new StateGraph(State)
  .addNode("node", async (state) => await inner.invoke(state))
  .addEdge(START, "node")
  .compile();
