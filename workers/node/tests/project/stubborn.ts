// Code that does not listen when its run is stopped, in every place where a graph may call code.

import { setTimeout as sleep } from "node:timers/promises";

import { RunnableLambda } from "@langchain/core/runnables";
import { Annotation, START, END, StateGraph, entrypoint, task } from "@langchain/langgraph";

const State = Annotation.Root({ x: Annotation<number> });

async function stubborn(): Promise<{ x: number }> {
  console.log("the stubborn code has begun");
  await sleep(400);
  console.log(`the stubborn code has ended at ${Date.now()}`);
  return { x: 1 };
}

const work = task("work", stubborn);
export const ofTasks = entrypoint("ofTasks", async () => await work());

export const chain = new StateGraph(State)
  .addNode("chain", RunnableLambda.from(stubborn).pipe(({ x }: { x: number }) => ({ x })))
  .addEdge(START, "chain")
  .compile();

export const edge = new StateGraph(State)
  .addNode("node", () => ({ x: 1 }))
  .addEdge(START, "node")
  .addConditionalEdges("node", async () => {
    await stubborn();
    return END;
  })
  .compile();

const inner = new StateGraph(State).addNode("inner", stubborn).addEdge(START, "inner").compile();
export const invoked = new StateGraph(State)
  .addNode("node", async () => await inner.invoke({}))
  .addEdge(START, "node")
  .compile();
