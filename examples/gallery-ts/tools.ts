// A tool-calling agent whose model is a local fake: it asks for the weather once, then answers.
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, type BaseMessage, ToolMessage } from "@langchain/core/messages";
import type { ChatResult } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import { MessagesValue, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";
import { z } from "zod";

const weather = tool(async ({ city }) => `sunny in ${city}`, {
  name: "weather",
  description: "The weather in a city.",
  schema: z.object({ city: z.string() }),
});

class FakeAgentModel extends BaseChatModel {
  _llmType() {
    return "fake-agent";
  }

  async _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const last = messages.at(-1);
    const call = { name: "weather", args: { city: last?.text }, id: `call-${messages.length}` };
    const message = ToolMessage.isInstance(last)
      ? new AIMessage(`It is ${last.text}.`)
      : new AIMessage({ content: "", tool_calls: [call] });
    return { generations: [{ text: message.text, message }] };
  }
}

const State = new StateSchema({ messages: MessagesValue });

export const graph = new StateGraph(State)
  .addNode("agent", async ({ messages }) => ({ messages: [await new FakeAgentModel({}).invoke(messages)] }))
  .addNode("tools", new ToolNode([weather]))
  .addEdge(START, "agent")
  .addConditionalEdges("agent", toolsCondition)
  .addEdge("tools", "agent")
  .compile();
