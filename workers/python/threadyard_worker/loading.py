"""Imports what langgraph.json names and sorts it into graphs and factories of graphs."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.pregel import Pregel

# How far the times of files may lie behind the clock.
_CLOCK_TICK_S = 0.02


class GraphLoadError(Exception):
    """The name in langgraph.json does not lead to something that can be run as a graph."""


@dataclass(frozen=True)
class Factory:
    """A function that makes a graph; called for every use."""

    function: Any
    config_parameter: str | None
    runtime_parameter: str | None

    def call(self, config: dict[str, Any], runtime: Any) -> Any:
        """What the function returns for this use: a graph, a builder, an awaitable or a context manager."""
        arguments = {}
        if self.config_parameter:
            arguments[self.config_parameter] = config
        if self.runtime_parameter:
            arguments[self.runtime_parameter] = runtime
        return self.function(**arguments)


def load_graph(path: str, project: Path) -> Pregel | Factory:
    """Import `./file.py:name` or `package.module:name` and tell what it is."""
    return as_graph_or_factory(load_name(path, project), path)


def load_name(path: str, project: Path) -> Any:
    """What `./file.py:name` or `package.module:name` leads to."""
    source, colon, name = path.rpartition(":")
    if not colon or not source or not name:
        raise GraphLoadError(f"`{path}` is not of the form `./file.py:name` or `package.module:name`")
    module = _import_file(project, source) if _is_file(source) else importlib.import_module(source)
    try:
        return getattr(module, name)
    except AttributeError:
        raise GraphLoadError(f"`{source}` has no `{name}`; it defines {_suggestions(module)}") from None


def names_python(path: str) -> bool:
    """Whether a path leads into a file or module, and not to a provider's model."""
    source = path.partition(":")[0]
    return _is_file(source) or "." in source


def as_graph_or_factory(value: Any, path: str) -> Pregel | Factory:
    """A compiled graph as it is, a builder compiled, a function as a factory."""
    if isinstance(value, Pregel):
        return value
    if not isinstance(value, type) and callable(compile := getattr(value, "compile", None)):
        return compile()
    if callable(value):
        return _factory(value, path)
    raise GraphLoadError(f"`{path}` is a {type(value).__name__}; expected a graph, a graph builder, or a function")


def as_graph(value: Any, path: str) -> Pregel:
    """The graph that a factory made."""
    graph = as_graph_or_factory(value, path) if not isinstance(value, Pregel) else value
    if not isinstance(graph, Pregel):
        raise GraphLoadError(f"the factory `{path}` returned a {type(value).__name__}; expected a graph")
    return graph


def revision(project: Path, since: float) -> str:
    """A hash over the project's source files that are loaded now, and were loaded since some time."""
    digest = hashlib.sha256()
    for path in sorted(_loaded_sources(project)):
        digest.update(str(path.relative_to(project)).encode() + b"\0")
        try:
            digest.update(path.read_bytes())
            # Nobody knows whether it was loaded as it is now, so that what loads it again must not pass for the same.
            if path.stat().st_mtime > since - _CLOCK_TICK_S:
                digest.update(os.urandom(16))
        except OSError:
            continue
    return digest.hexdigest()[:32]


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


def _import_file(project: Path, source: str) -> types.ModuleType:
    """The module in a file, imported once under the name by which other modules would import it."""
    path = (project / source).resolve()
    if not path.is_file():
        raise GraphLoadError(f"`{source}` does not exist in the project")
    for loaded in list(sys.modules.values()):
        if _file_of(loaded) == str(path) and loaded.__name__ != "__main__":
            return loaded
    name, root = _module_name(path, project)
    if root is not None and str(root) not in sys.path:
        sys.path.append(str(root))
    if "." in name and name.isascii() and all(part.isidentifier() for part in name.split(".")):
        # Imports the parent packages too, so that relative imports work.
        importlib.import_module(name.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GraphLoadError(f"`{source}` is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path, project: Path) -> tuple[str, Path | None]:
    """The file's importable name and the folder that has to be on `sys.path` for it.

    Checkpoints name classes by module, so the name may not differ between processes.
    """
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    parts = [*path.relative_to(root).parts[:-1], path.stem]
    if root != project and len(parts) == 1 and path.is_relative_to(project):
        # A loose file in a subfolder: a namespace package of the project.
        parts, root = [*path.relative_to(project).parts[:-1], path.stem], project
    name = ".".join(parts)
    if not all(part.isidentifier() for part in parts) or _taken(name, path):
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        return f"threadyard_graph_{digest}", None
    return name, root


def _taken(name: str, path: Path) -> bool:
    """Whether importing `name` would give another module than the one in the file."""
    if name in sys.modules:
        return _file_of(sys.modules[name]) != str(path)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() != path


def _file_of(module: types.ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return _real(file) if isinstance(file, str) else None


def know_loaded_files() -> None:
    """Looks at what is imported already, so that whoever is forked from here need not."""
    for module in list(sys.modules.values()):
        _file_of(module)


@functools.cache
def _real(file: str) -> str:
    """The file without links. A thousand modules lie in a hundred folders, of which each is looked at once."""
    folder, name = os.path.split(file)
    path = os.path.join(_real_folder(folder), name)
    return os.path.realpath(path) if os.path.islink(path) else path


@functools.cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _suggestions(module: types.ModuleType) -> str:
    values = vars(module).items()
    graphs = [name for name, value in values if isinstance(value, Pregel) or hasattr(value, "compile")]
    own = [name for name, value in values if getattr(value, "__module__", None) == module.__name__]
    return ", ".join(f"`{name}`" for name in graphs or own) or "no graph and no function"


def _loaded_sources(project: Path) -> set[Path]:
    installed = [Path(p).resolve() for p in sys.path if p.endswith("site-packages")]
    below = os.path.join(project, "")
    files = {file for module in list(sys.modules.values()) if (file := _file_of(module))}
    own = {Path(file) for file in files if file.startswith(below)}
    return {file for file in own if not any(file.is_relative_to(folder) for folder in installed)}


def _factory(function: Any, path: str) -> Factory:
    """Decide what each parameter of a factory wants, by annotation first, then by name."""
    config_parameter = runtime_parameter = None
    hints = _hints(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(parameter.name, parameter.annotation)
        if _wants_runtime(hint, parameter.name):
            runtime_parameter = parameter.name
        elif config_parameter is None and parameter.default is parameter.empty:
            config_parameter = parameter.name
        elif parameter.name == "config":
            config_parameter = parameter.name
        elif parameter.default is parameter.empty:
            raise GraphLoadError(
                f"the factory `{path}` takes `{parameter.name}`; "
                "it may take a config (RunnableConfig) and a runtime (ServerRuntime) only"
            )
    return Factory(function, config_parameter, runtime_parameter)


def _hints(function: Any) -> Mapping[str, Any]:
    target = inspect.unwrap(function)
    target = target if inspect.isroutine(target) else type(target).__call__
    try:
        return typing.get_type_hints(target)
    except Exception:  # A name under TYPE_CHECKING is no reason to refuse a factory.
        return getattr(target, "__annotations__", {})


def _wants_runtime(hint: Any, name: str) -> bool:
    if hint is inspect.Parameter.empty:
        return name == "runtime"
    return "ServerRuntime" in str(hint) or "_ExecutionRuntime" in str(hint) or "_ReadRuntime" in str(hint)
