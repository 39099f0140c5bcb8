"""The graphs of the benchmark: they do next to nothing, so that what is left is the cost of serving them."""

import asyncio
import operator
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph


class CountingModel(BaseChatModel):
    """A chat model that streams that many tokens, at once or with pauses."""

    tokens: int
    pause: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        text = "".join(f"token{i} " for i in range(self.tokens))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for i in range(self.tokens):
            if self.pause:
                await asyncio.sleep(self.pause)
            chunk = ChatGenerationChunk(message=AIMessageChunk(f"token{i} "))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class Count(TypedDict, total=False):
    count: int
    log: Annotated[list[int], operator.add]
    until: int


class Chat(MessagesState, total=False):
    until: int
    pause: float


async def add(state: Count) -> Count:
    return {"count": state.get("count", 0) + 1}


async def step(state: Count) -> Count:
    count = state.get("count", 0) + 1
    return {"count": count, "log": [count]}


async def answer(state: Chat) -> Chat:
    model = CountingModel(tokens=state["until"], pause=state.get("pause", 0.0))
    return {"messages": [await model.ainvoke(state["messages"])]}


async def echo_last(state: MessagesState) -> MessagesState:
    return {"messages": [AIMessage(f"echo: {state['messages'][-1].content}")]}


async def report(state: Count) -> Count:
    write = get_stream_writer()
    for i in range(state["until"]):
        write({"progress": f"part {i}"})
    return {"count": state["until"]}


noop = StateGraph(Count).add_node(add).add_edge(START, "add").compile()
steps = (
    StateGraph(Count)
    .add_node(step)
    .add_edge(START, "step")
    .add_conditional_edges("step", lambda state: "step" if state["count"] < state["until"] else END, ["step", END])
    .compile()
)
tokens = StateGraph(Chat).add_node(answer).add_edge(START, "answer").compile()
custom = StateGraph(Count).add_node(report).add_edge(START, "report").compile()
echo = StateGraph(MessagesState).add_node(echo_last).add_edge(START, "echo_last").compile()
