"""The pages of docs/ whose snippets make up a project and its clients: written to disk and run as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Server

GRAPHS = ["examples/quickstart/chat.py", "examples/gallery/review.py", "examples/gallery/tools.py"]
CONFIG = {
    "dependencies": ["."],
    "graphs": {"agent": "./chat.py:graph", "review": "./review.py:builder", "tools": "./tools.py:graph"},
}


def snippets(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def project_of(page: str, folder: Path) -> Path:
    """The files that a page shows, beside the examples' graphs."""
    folder.mkdir()
    for graph in GRAPHS:
        (folder / Path(graph).name).write_text((ROOT / graph).read_text())
    whole = [text for text in snippets(page, "json") if '"graphs":' in text]
    (folder / "langgraph.json").write_text(whole[0] if whole else json.dumps(CONFIG))
    for text in snippets(page, "python"):
        if file := re.match(r"# (\w+\.py)\n", text):
            (folder / file[1]).write_text(text)
    return folder


def clients(page: str) -> list[str]:
    """What a page runs against the server."""
    return [text for text in snippets(page, "python") if "127.0.0.1:2024" in text]


@pytest.mark.parametrize("page", ["custom-auth.md", "custom-app.md", "agents.md", "event-streaming.md"])
def test_the_snippets_of_a_page_work_as_printed(page: str, serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(project_of(page, tmp_path / "project"))
    scripts = clients(page)
    assert scripts, "the page has no client"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for script in scripts:
        script = script.replace("127.0.0.1:2024", f"127.0.0.1:{server.port}")
        done = subprocess.run([sys.executable, "-c", f"import patience\n{script}"], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{server.log()}"


SECTIONS = ('"auth"', '"http"', '"store"', '"checkpointer"', '"webhooks"')
FRAGMENTS = [
    (page.name, text)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for text in snippets(page.name, "json")
    if text.startswith(SECTIONS)
]


@pytest.mark.parametrize(("page", "text"), FRAGMENTS)
def test_sections_of_langgraph_json_are_understood(page: str, text: str, tmp_path: Path) -> None:
    config = '{"graphs": {"agent": "./chat.py:graph"}, ' + text + "}"
    (tmp_path / "langgraph.json").write_text(config)
    for file in re.findall(r"\./([\w/]+\.py)", config):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    doctor = [os.environ["THREADYARD_BIN"], "doctor", "--config", str(tmp_path / "langgraph.json")]
    env = {**os.environ, "LG_WEBHOOK_TOKEN": "t"}
    done = subprocess.run(doctor, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "is not known" not in done.stdout


def test_each_variable_of_the_server_is_documented() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    for command in ("dev", "serve", "import", "migrate", "keys list", "webhooks list"):
        help = [os.environ["THREADYARD_BIN"], *command.split(), "--help"]
        shown = subprocess.run(help, capture_output=True, text=True).stdout
        variables = re.findall(r"\[env: (\w+)", shown)
        flags = re.findall(r"^ +(?:-\w, )?(--[\w-]+)", shown, re.M) if command in ("dev", "serve") else []
        assert variables, shown
        missing = [name for name in variables + flags if f"`{name}`" not in page and name != "--help"]
        assert missing == [], f"say in docs/configuration.md what these of `{command}` mean"


SECTIONS_OUTSIDE = ["index", "retention", "serde_rules", "webhooks", "webhook_pace"]
HAVE_KEYS_OF_THEIR_OWN = {"url", "network", "retry", "timeouts", "limits", "log", "cache"}
OF_PATTERNS = {"includes", "excludes"}
READ_WITHOUT_A_STRUCT = {"graphs", "dependencies", "env", "description", "backend", "serde", "node_version", "ui"}


def keys_that_are_read() -> set[str]:
    """The fields of the structs that sections of langgraph.json are read into."""
    folder = ROOT / "crates/runtime/src"
    files = [*folder.glob("project/*.rs"), *(folder / f"{name}.rs" for name in SECTIONS_OUTSIDE)]
    struct = r"Deserialize.*\n(?:#\[(?!serde\(try_from).*\n)*.*struct \w+ \{\n([^}]*)^\}"
    keys = set()
    for file in files:
        for body in re.findall(struct, file.read_text(), re.M):
            renamed = re.sub(r'#\[serde\(.*rename = "(\w+)".*\n.*?:', r"\1:", body)
            keys.update(re.findall(r"^    (?:pub(?:\(crate\))? )?(\w+):", renamed, re.M))
    return keys


def test_the_keys_of_the_project_are_those_that_are_documented() -> None:
    rows = re.findall(r"^\| (`[a-z].*?) \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    documented = {name.rpartition(".")[2] for row in rows for name in re.findall(r"`([\w.<>]+)`", row)}
    read = keys_that_are_read()
    assert read - HAVE_KEYS_OF_THEIR_OWN - OF_PATTERNS - documented == set(), "say what they mean"
    assert documented - read - READ_WITHOUT_A_STRUCT == set(), "nobody reads these keys"
