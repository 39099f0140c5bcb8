// A person decides: the graph drafts, pauses with `interrupt()`, and goes on with the answer.
import { interrupt, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

const State = new StateSchema({
  topic: z.string().optional(),
  draft: z.string().optional(),
  approved: z.boolean().optional(),
});

export const builder = new StateGraph(State)
  .addNode("write", async ({ topic }) => {
    if (topic === undefined) throw new Error("there is no topic");
    return { draft: `All about ${topic}.` };
  })
  .addNode("review", async ({ draft }) => {
    const answer = interrupt({ question: "Publish this?", draft });
    return { approved: Boolean(answer) };
  })
  .addEdge(START, "write")
  .addEdge("write", "review");
