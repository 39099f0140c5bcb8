"""Store items found by their meaning: `store.index` of langgraph.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

# A text means how often it speaks of animals, vehicles and food.
EMBED = """
from langchain_core.embeddings import Embeddings

TOPICS = [("cat", "dog", "pet"), ("car", "train", "wheel"), ("bread", "soup", "hungry")]
calls = []


def embed(texts):
    calls.append(list(texts))
    return [[float(sum(text.count(word) for word in topic)) for topic in TOPICS] for text in texts]


async def embed_async(texts):
    return embed(texts)


class Topics(Embeddings):
    def __init__(self, model=None):
        self.model = model

    def embed_documents(self, texts):
        return embed(texts)

    def embed_query(self, text):
        return embed([text])[0]


topics = Topics()


def wrong(texts):
    return [[1.0] for _ in texts]


def failing(texts):
    raise RuntimeError("the model is out for lunch")


not_callable = 1
"""
# What LangChain imports for the provider `openai`.
PROVIDER = """
from embed import Topics as OpenAIEmbeddings
"""
GRAPH = """
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import PutOp


class State(TypedDict, total=False):
    query: str
    found: Any


async def remember(state: State, runtime: Runtime) -> State:
    await runtime.store.abatch([
        PutOp(("from graph",), "tabby", {"text": "a cat", "note": "soup"}),
        PutOp(("from graph",), "silent", {"text": "a cat"}, False),
        PutOp(("from graph",), "noted", {"text": "nothing", "note": "soup"}, ["note"]),
    ])
    found = await runtime.store.asearch((), query=state["query"], limit=20)
    return {"found": [[item.key, item.score] for item in found]}


graph = StateGraph(State).add_node(remember).add_edge(START, "remember").compile()
"""
FILES = {"embed.py": EMBED, "langchain_openai.py": PROVIDER, "graph.py": GRAPH}
INDEX = {"embed": "./embed.py:embed", "dims": 3, "fields": ["text"]}


def indexed(project: Callable[..., Any], **index: Any) -> Any:
    return project({"graph": "./graph.py:graph"}, FILES, store={"index": {**INDEX, **index}})


def search(client: SyncLangGraphClient, query: str, *prefix: str, **more: Any) -> list[tuple[str, float | None]]:
    found = client.store.search_items(prefix, query=query, **more)["items"]
    return [(item["key"], item["score"]) for item in found]


@pytest.mark.parametrize(
    "embed",
    ["./embed.py:embed", "./embed.py:embed_async", "./embed.py:topics", "openai:text-embedding-3-small"],
)
def test_items_are_found_by_their_meaning(embed: str, serve: Any, project: Any) -> None:
    server = serve(indexed(project, embed=embed))
    client = get_sync_client(url=server.url)
    put = client.store.put_item
    put(("pets",), "rex", value={"text": "a dog in a car", "age": 3})
    put(("pets",), "tom", value={"text": "a cat", "age": 4})
    put(("pets",), "hidden", value={"text": "a cat"}, index=False)
    put(("garage",), "van", value={"text": "a car"})
    put(("kitchen",), "menu", value={"text": "nothing", "courses": [{"name": "soup"}, {"name": "dog"}]}, index=["courses[*].name"])

    half = pytest.approx(0.5**0.5)
    assert search(client, "pet", "pets") == [("tom", 1.0), ("rex", half), ("hidden", None)]
    assert search(client, "pet", "pets", limit=1, offset=1) == [("rex", half)]
    assert search(client, "pet", "pets", filter={"age": {"$lt": 4}}) == [("rex", half)]
    assert search(client, "hungry")[0] == ("menu", 1.0)
    # Without a query the last changed come first, as without an index.
    unscored = client.store.search_items(("pets",))["items"]
    assert [(item["key"], item["score"]) for item in unscored] == [("hidden", None), ("tom", None), ("rex", None)]

    # Graph code and the API see the same items, and the same meaning.
    state = client.runs.wait(None, "graph", input={"query": "pet"})
    assert dict(state["found"]) == {key: score for key, score in search(client, "pet", limit=20)}
    assert state["found"][0][1] == 1.0
    assert search(client, "soup", "from graph") == [("noted", 1.0), ("tabby", 0.0), ("silent", None)]

    # Written anew, an item means what it says now; deleted, it is gone.
    put(("pets",), "tom", value={"text": "a train"})
    client.store.delete_item(("pets",), "rex")
    assert search(client, "pet", "pets") == [("tom", 0.0), ("hidden", None)]


def test_another_model_does_not_compare_with_what_the_last_one_made(serve: Any, project: Any) -> None:
    server = serve(indexed(project))
    get_sync_client(url=server.url).store.put_item(("pets",), "tom", value={"text": "a cat"})
    server.kill()
    server = serve(indexed(project))
    assert search(get_sync_client(url=server.url), "pet") == [("tom", 1.0)]
    server.stop()
    client = get_sync_client(url=serve(indexed(project, embed="./embed.py:embed_async")).url)
    assert search(client, "pet") == [("tom", None)]
    client.store.put_item(("pets",), "tom", value={"text": "a cat"})
    assert search(client, "pet") == [("tom", 1.0)]


@pytest.mark.parametrize(
    ("embed", "reason"),
    [
        ("./gone.py:embed", "`./gone.py` does not exist"),
        ("./embed.py:gone", "has no `gone`; it defines `embed`"),
        ("./embed.py:not_callable", "is a int; expected a function of texts, or an `Embeddings` object"),
        ("./embed.py:Topics", "is a class; expected a function of texts, or an `Embeddings` object"),
        ("nobody:model", "nobody"),
    ],
)
def test_what_can_t_embed_stops_the_start(embed: str, reason: str, serve: Any, project: Any) -> None:
    with pytest.raises(AssertionError) as failure:
        serve(indexed(project, embed=embed))
    assert "store.index.embed" in str(failure.value)
    assert reason in str(failure.value)


@pytest.mark.parametrize(
    ("embed", "reason"),
    [
        ("./embed.py:failing", "RuntimeError: the model is out for lunch"),
        ("./embed.py:wrong", "the embedding has 1 numbers, but store.index.dims of langgraph.json says 3"),
    ],
)
def test_an_embedding_that_fails_fails_the_request_alone(embed: str, reason: str, serve: Any, project: Any) -> None:
    server = serve(indexed(project, embed=embed))
    client = get_sync_client(url=server.url)
    with pytest.raises(httpx.HTTPStatusError) as failure:
        client.store.put_item(("pets",), "tom", value={"text": "a cat"})
    assert failure.value.response.status_code == 503
    assert reason in failure.value.response.text
    assert client.store.get_item(("pets",), "tom") is None
    with pytest.raises(httpx.HTTPStatusError):
        search(client, "pet")
    state = client.runs.wait(None, "graph", input={"query": "pet"}, raise_error=False)
    assert reason.split(": ")[-1] in state["__error__"]["message"]
    # What needs no meaning goes on.
    client.store.put_item(("pets",), "tom", value={"text": "a cat"}, index=False)
    assert client.store.search_items(("pets",))["items"][0]["key"] == "tom"
