// A graph that says what it hears, and one that has the server say it.
import { START, StateGraph, StateSchema } from "@langchain/langgraph";
import { Client } from "@langchain/langgraph-sdk";
import { z } from "zod";

const state = new StateSchema({ text: z.string() });

export const graph = new StateGraph(state)
  .addNode("echo", async ({ text }) => ({ text: `${text}!` }))
  .addEdge(START, "echo")
  .compile();

export const asking = new StateGraph(state)
  .addNode("ask", async (input) => (await new Client().runs.wait(null, "echo", { input })) as { text: string })
  .addEdge(START, "ask")
  .compile();
