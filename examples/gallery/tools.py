"""A tool-calling agent whose model is a local fake: it asks for the weather once, then answers."""

from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class FakeAgentModel(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "fake-agent"

    def _generate(self, messages: list[BaseMessage], *_args: Any, **_options: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            message = AIMessage(f"It is {last.content}.")
        else:
            call = {"name": "weather", "args": {"city": last.text}, "id": "call-1"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


async def agent(state: MessagesState) -> dict[str, list[BaseMessage]]:
    return {"messages": [await FakeAgentModel().ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("agent", agent)
builder.add_node("tools", ToolNode([weather]))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile()
