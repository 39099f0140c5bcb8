// A graph that says what it hears.
import { START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

export const graph = new StateGraph(new StateSchema({ text: z.string() }))
  .addNode("echo", async ({ text }) => ({ text: `${text}!` }))
  .addEdge(START, "echo")
  .compile();
