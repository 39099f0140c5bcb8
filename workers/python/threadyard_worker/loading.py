"""Finds the project's graphs and turns what a path names into a compiled graph."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from .saver import HostSaver
from .store import HostStore


class Graphs:
    """The graphs of one project."""

    def __init__(self, project: str, specs: dict[str, dict[str, Any]], imports: list[str]) -> None:
        self._project = Path(project)
        self._loaded: dict[str, Any] = {}
        self.failures: dict[str, dict[str, str]] = {}
        self.warnings: list[str] = []
        for folder in [project, *imports]:
            if folder not in sys.path:
                sys.path.insert(0, folder)
        for graph_id, spec in specs.items():
            try:
                self._loaded[graph_id] = self._accept(graph_id, _imported(self._project, spec["path"]))
            except BaseException as error:  # noqa: BLE001 - a graph may do anything while it is imported.
                if isinstance(error, KeyboardInterrupt):
                    raise
                self.failures[graph_id] = failure(error)

    def _accept(self, graph_id: str, found: Any) -> Any:
        if isinstance(found, StateGraph):
            found = found.compile()
        if isinstance(found, Pregel):
            if found.checkpointer not in (None, True, False):
                self.warnings.append(
                    f"graph `{graph_id}` is compiled with a checkpointer of its own; the server's is used instead"
                )
            return found
        if callable(found):
            return found
        raise TypeError(f"graph `{graph_id}` is a {type(found).__name__}, not a graph or a function that makes one")

    def revision(self) -> str:
        """A hash over the source files that were loaded from the project."""
        digest = hashlib.sha256()
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        own = sorted(file for file in files if file and _is_below(Path(file), self._project))
        for file in own:
            digest.update(file.encode())
            with contextlib.suppress(OSError):
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()[:32]

    @contextlib.asynccontextmanager
    async def use(
        self, graph_id: str, config: dict[str, Any], saver: HostSaver | None, store: HostStore
    ) -> AsyncIterator[Pregel]:
        """The graph with the host's checkpointer and store attached; a factory is asked anew each time."""
        if graph_id in self.failures:
            raise GraphUnavailable(self.failures[graph_id])
        if graph_id not in self._loaded:
            raise KeyError(graph_id)
        async with contextlib.AsyncExitStack() as stack:
            graph = await _made(self._loaded[graph_id], config, store, stack)
            yield graph.copy(update={"checkpointer": saver, "store": store, "name": graph_id})


class GraphUnavailable(Exception):
    """The graph could not be loaded."""

    def __init__(self, failure: dict[str, str]) -> None:
        super().__init__(failure["message"])
        self.failure = failure


def failure(error: BaseException) -> dict[str, str]:
    text = "".join(traceback.format_exception(error))
    return {"error": type(error).__name__, "message": str(error), "traceback": text}


def _imported(project: Path, path: str) -> Any:
    source, _, name = path.rpartition(":")
    if not source or not name:
        raise ValueError(f"`{path}` must be `./file.py:name` or `package.module:name`")
    if source.endswith(".py") or "/" in source:
        module = _module_of_file((project / source).resolve())
    else:
        module = importlib.import_module(source)
    if not hasattr(module, name):
        raise AttributeError(f"`{source}` has no `{name}`")
    return getattr(module, name)


def _module_of_file(file: Path) -> Any:
    name = f"threadyard_graph_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise FileNotFoundError(f"`{file}` does not exist")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"`{file}` is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


async def _made(found: Any, config: dict[str, Any], store: HostStore, stack: contextlib.AsyncExitStack) -> Pregel:
    if not isinstance(found, Pregel):
        found = found(*_arguments(found, config, store))
        if inspect.isawaitable(found):
            found = await found
        if hasattr(found, "__aenter__"):
            found = await stack.enter_async_context(found)
        elif hasattr(found, "__enter__") and not isinstance(found, Pregel):
            found = stack.enter_context(found)
    if isinstance(found, StateGraph):
        found = found.compile()
    if not isinstance(found, Pregel):
        raise TypeError(f"the graph factory returned a {type(found).__name__}, not a graph")
    return found


def _arguments(factory: Any, config: dict[str, Any], store: HostStore) -> list[Any]:
    """What a factory asks for: nothing, the config, or the runtime, told apart by name and annotation."""
    arguments = []
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        if parameter.default is not parameter.empty:
            continue
        wants_runtime = "runtime" in parameter.name.lower() or "Runtime" in str(parameter.annotation)
        arguments.append(_runtime(store) if wants_runtime else config)
    return arguments


def _runtime(store: HostStore) -> Any:
    from langgraph.runtime import Runtime

    return Runtime(store=store)


def _is_below(file: Path, folder: Path) -> bool:
    parts = file.parts
    return folder in file.parents and not any(part in (".venv", "site-packages") for part in parts)
