"""What a graph looks like from outside: JSON schemas, drawing, subgraphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from langgraph.pregel import Pregel
from pydantic import create_model

logger = logging.getLogger("threadyard_worker")


def graph_schemas(graph: Pregel) -> dict[str, Any]:
    """The schemas of input, output, state, configuration and context. One that can't be made is null."""
    context = _schema(graph, "context", graph.get_context_jsonschema)
    return {
        "input_schema": _schema(graph, "input", graph.get_input_jsonschema),
        "output_schema": _schema(graph, "output", graph.get_output_jsonschema),
        "state_schema": _schema(graph, "state", lambda: _state_schema(graph)),
        "config_schema": context or {},
        "context_schema": context,
    }


async def drawing(graph: Pregel, config: dict[str, Any], xray: bool | int) -> dict[str, Any]:
    """Nodes and edges as `GET /assistants/{id}/graph` answers them."""
    drawn = (await graph.aget_graph(config, xray=xray)).to_json()
    return {
        "nodes": [_node(node) for node in drawn["nodes"]],
        "edges": drawn["edges"],
    }


async def subgraph_schemas(graph: Pregel, namespace: str | None, recurse: bool) -> dict[str, Any]:
    """The schemas of the subgraphs by name."""
    return {
        name: graph_schemas(subgraph)
        async for name, subgraph in graph.aget_subgraphs(namespace=namespace, recurse=recurse)
        if isinstance(subgraph, Pregel)
    }


def _schema(graph: Pregel, what: str, make: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    try:
        return make()
    except Exception as error:  # State may hold types that have no schema; the graph runs all the same.
        logger.warning("the %s schema of graph `%s` can't be made: %s", what, graph.name, error)
        return None


def _state_schema(graph: Pregel) -> dict[str, Any]:
    channels = graph.stream_channels_asis
    if isinstance(channels, str):
        return create_model(graph.get_name("State"), root=(graph.channels[channels].UpdateType, None)).model_json_schema()
    fields: dict[str, Any] = {name: (graph.channels[name].UpdateType, None) for name in channels}
    return create_model(graph.get_name("State"), **fields).model_json_schema()


def _node(node: dict[str, Any]) -> dict[str, Any]:
    if node["id"].rpartition(":")[2] == "__end__":
        return {"id": node["id"]}
    data = node.get("data")
    if isinstance(data, dict):
        return {**node, "data": {"name": data["name"]}}
    return node
