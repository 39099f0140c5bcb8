"""Holds a project's LangGraph graphs and executes them for the Threadyard host (docs/worker-protocol.md)."""

PROTOCOL = (1, 1)
