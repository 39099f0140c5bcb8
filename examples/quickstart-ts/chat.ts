// A chat graph. Its model is a local fake that streams word by word, so it needs no key; put a real one in its place.
import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage, HumanMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { END, MessagesValue, START, StateGraph, StateSchema } from "@langchain/langgraph";

/** Answers from what it was asked, a word at a time. */
class FakeChatModel extends BaseChatModel {
  pause = 30;

  _llmType() {
    return "fake";
  }

  answer(messages: BaseMessage[]): string {
    const turn = messages.filter((message) => HumanMessage.isInstance(message)).length;
    return (
      `You said '${messages.at(-1)?.text}'. This is turn ${turn} of our thread, ` +
      "and every word of it is on disk before you are told that the run is over."
    );
  }

  async _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const text = this.answer(messages);
    return { generations: [{ text, message: new AIMessage(text) }] };
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    _options: this["ParsedCallOptions"],
    run?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    for (const word of this.answer(messages).split(/(?= )/)) {
      await new Promise((done) => setTimeout(done, this.pause));
      const chunk = new ChatGenerationChunk({ text: word, message: new AIMessageChunk(word) });
      yield chunk;
      await run?.handleLLMNewToken(word, undefined, undefined, undefined, undefined, { chunk });
    }
  }
}

const model = new FakeChatModel({});
const State = new StateSchema({ messages: MessagesValue });

export const graph = new StateGraph(State)
  .addNode("chat", async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
  .addEdge(START, "chat")
  .addEdge("chat", END)
  .compile();
