"""A graph in a file that has no importable name; it imports from the project's folder."""

from agent.graph import graph

__all__ = ["graph"]
