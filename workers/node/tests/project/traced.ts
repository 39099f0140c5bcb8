// A graph whose code uses OpenTelemetry, set up as a program that wants traces does it.

import { Annotation, START, StateGraph } from "@langchain/langgraph";
import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

const Seen = Annotation.Root({ seen: Annotation<object>() });

export const traced = new StateGraph(Seen)
  .addNode("look", async () => {
    const { traceState, ...span } = trace.getActiveSpan()?.spanContext() ?? {};
    return { seen: { ...span, traceState: traceState?.serialize() } };
  })
  .addEdge(START, "look")
  .compile();
