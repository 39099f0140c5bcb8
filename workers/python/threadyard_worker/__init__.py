"""The process that holds a project's graphs and runs them for the Threadyard host (see docs/worker-protocol.md)."""

__version__ = "0.1.0"
