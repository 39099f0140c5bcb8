// Graphs that say what their state looks like.

import { START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

const State = z.object({ topic: z.string(), count: z.number().default(0) });

export const zod = new StateGraph({
  stateSchema: State,
  input: z.object({ topic: z.string() }),
  output: z.object({ count: z.number() }),
  context: z.object({ tone: z.string().optional() }),
})
  .addNode("measure", async (state) => ({ count: state.topic.length }))
  .addEdge(START, "measure")
  .compile();

export const state = new StateGraph(new StateSchema({ topic: z.string(), notes: z.array(z.string()).default([]) }))
  .addNode("note", async ({ topic }) => ({ notes: [topic] }))
  .addEdge(START, "note")
  .compile();

export const dated = new StateGraph(z.object({ topic: z.string(), due: z.date().optional() }))
  .addNode("note", async () => ({}))
  .addEdge(START, "note")
  .compile();
