// The graphs of the benchmark in TypeScript: they do next to nothing, so that what is left is the cost of serving them.
import { setTimeout } from "node:timers/promises";

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { Annotation, END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

/** A chat model that streams that many tokens, at once or with pauses. */
class CountingModel extends BaseChatModel {
  readonly tokens: number;
  readonly pause: number;

  constructor(tokens: number, pause: number) {
    super({});
    this.tokens = tokens;
    this.pause = pause;
  }

  _llmType() {
    return "counting";
  }

  async _generate(): Promise<ChatResult> {
    const text = Array.from({ length: this.tokens }, (_, at) => `token${at} `).join("");
    return { generations: [{ text, message: new AIMessage(text) }] };
  }

  override async *_streamResponseChunks(
    _messages: BaseMessage[],
    _options: this["ParsedCallOptions"],
    run?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    for (let at = 0; at < this.tokens; at += 1) {
      if (this.pause > 0) await setTimeout(this.pause * 1000);
      const text = `token${at} `;
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk(text) });
      yield chunk;
      await run?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
  }
}

const Count = Annotation.Root({
  count: Annotation<number>(),
  log: Annotation<number[]>({ reducer: (all, more) => [...all, ...more], default: () => [] }),
  until: Annotation<number>(),
});
const Chat = Annotation.Root({ ...MessagesAnnotation.spec, until: Annotation<number>(), pause: Annotation<number>() });

export const noop = new StateGraph(Count)
  .addNode("add", async ({ count }) => ({ count: (count ?? 0) + 1 }))
  .addEdge(START, "add")
  .compile();

export const steps = new StateGraph(Count)
  .addNode("step", async ({ count }) => ({ count: (count ?? 0) + 1, log: [(count ?? 0) + 1] }))
  .addEdge(START, "step")
  .addConditionalEdges("step", ({ count, until }) => (count < until ? "step" : END), ["step", END])
  .compile();

export const tokens = new StateGraph(Chat)
  .addNode("answer", async ({ messages, until, pause }) => ({
    messages: [await new CountingModel(until, pause ?? 0).invoke(messages)],
  }))
  .addEdge(START, "answer")
  .compile();

export const custom = new StateGraph(Count)
  .addNode("report", async ({ until }, { writer }) => {
    for (let at = 0; at < until; at += 1) writer?.({ progress: `part ${at}` });
    return { count: until };
  })
  .addEdge(START, "report")
  .compile();

export const echo = new StateGraph(MessagesAnnotation)
  .addNode("echo_last", async ({ messages }) => ({ messages: [new AIMessage(`echo: ${messages.at(-1)?.content}`)] }))
  .addEdge(START, "echo_last")
  .compile();
