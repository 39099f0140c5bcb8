"""A chat graph. Its model is a local fake that streams word by word, so it needs no key; put a real one in its place."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph


class FakeChatModel(BaseChatModel):
    """Answers from what it was asked, a word at a time."""

    pause: float = 0.03

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _answer(self, messages: list[BaseMessage]) -> str:
        turn = sum(message.type == "human" for message in messages)
        return (
            f"You said {messages[-1].text!r}. This is turn {turn} of our thread, "
            "and every word of it is on disk before you are told that the run is over."
        )

    def _generate(self, messages: list[BaseMessage], *_args: Any, **_options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self._answer(messages)))])

    async def _astream(self, messages: list[BaseMessage], *_args: Any, **_options: Any) -> AsyncIterator[ChatGenerationChunk]:
        for index, word in enumerate(self._answer(messages).split(" ")):
            await asyncio.sleep(self.pause)
            yield ChatGenerationChunk(message=AIMessageChunk(word if index == 0 else f" {word}"))


model = FakeChatModel()


async def chat(state: MessagesState) -> dict[str, list[BaseMessage]]:
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("chat", chat)
builder.add_edge(START, "chat")
builder.add_edge("chat", END)
graph = builder.compile()
