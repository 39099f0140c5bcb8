// A graph that says something with components: one that grows, and one that goes.
import { AIMessage } from "@langchain/core/messages";
import { Annotation, type LangGraphRunnableConfig, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { typedUi, type UIMessage, type RemoveUIMessage, uiMessageReducer } from "@langchain/langgraph-sdk/react-ui/server";

import type Components from "./ui.js";

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  ui: Annotation<UIMessage[], UIMessage | RemoveUIMessage | (UIMessage | RemoveUIMessage)[]>({
    reducer: uiMessageReducer,
    default: () => [],
  }),
});

async function show(_: typeof State.State, config: LangGraphRunnableConfig) {
  const ui = typedUi<typeof Components>(config);
  const message = new AIMessage({ id: "answer", content: "Here it is." });
  ui.push({ id: "shown", name: "weather", props: { city: "Berlin" } }, { message });
  ui.push({ id: "shown", name: "weather", props: { city: "Berlin", sky: "clear" } }, { message, merge: true });
  ui.push({ id: "gone", name: "weather", props: { city: "Nowhere" } });
  ui.delete("gone");
  return { messages: [message] };
}

export const graph = new StateGraph(State).addNode("show", show).addEdge(START, "show").compile();
