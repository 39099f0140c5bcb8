"""What a graph says about itself: schemas, drawing, subgraphs."""

from __future__ import annotations

from typing import Any

from langgraph.pregel import Pregel


def of(graph_id: str | None, graph: Pregel) -> dict[str, Any]:
    context = graph.get_context_jsonschema()
    name = graph_id or graph.name
    schemas = {
        "input_schema": graph.get_input_jsonschema(),
        "output_schema": graph.get_output_jsonschema(),
        "state_schema": _state(name, graph),
        "config_schema": context or {},
        "context_schema": context,
    }
    return schemas if graph_id is None else {"graph_id": graph_id, **schemas}


def _state(name: str, graph: Pregel) -> dict[str, Any]:
    from langgraph._internal._pydantic import create_model

    channels = graph.stream_channels_list
    fields = {channel: (graph.channels[channel].UpdateType or Any, None) for channel in channels}
    return create_model(f"{name}_state", field_definitions=fields).model_json_schema()


async def draw(graph: Pregel, args: dict[str, Any]) -> dict[str, Any]:
    drawing = (await graph.aget_graph(args["config"], xray=args.get("xray") or False)).to_json()
    for node in drawing["nodes"]:
        data = node.get("data")
        if isinstance(data, dict) and "name" in data:
            node["data"] = {"name": data["name"]}
    return drawing


async def subgraphs(graph: Pregel, args: dict[str, Any]) -> dict[str, Any]:
    found = graph.aget_subgraphs(namespace=args.get("namespace"), recurse=bool(args.get("recurse")))
    return {name: of(None, subgraph) async for name, subgraph in found}
