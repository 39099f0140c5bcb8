"""Installs what a project's langgraph.json depends on, when its image is built: the same that a server would at its start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ALWAYS = ["langgraph>=1.0", "uvloop"]


def requirements(folder: Path, config: dict[str, Any]) -> list[str]:
    """What pip is to install."""
    wanted = list(ALWAYS)
    for dependency in config.get("dependencies", []):
        if not dependency.startswith((".", "/")):
            wanted.append(dependency)
            continue
        local = (folder / dependency).resolve()
        if not local.exists():
            raise SystemExit(f"`dependencies` names `{dependency}`, which is not in the image")
        if (local / "requirements.txt").is_file():
            wanted.append(f"--requirement={local / 'requirements.txt'}")
        if (local / "pyproject.toml").is_file() or (local / "setup.py").is_file():
            wanted.append(f"--editable={local}")
    return wanted


def leave_out_variables(folder: Path, config: dict[str, Any]) -> None:
    """A file of variables stays out of the image, but a server starts only where it is."""
    env = config.get("env")
    if isinstance(env, str) and not (folder / env).exists():
        (folder / env).parent.mkdir(parents=True, exist_ok=True)
        (folder / env).touch()
        print(f"`{env}` is empty in the image: set its variables where the image runs")


def main() -> None:
    file = Path(sys.argv[1])
    config = json.loads(file.read_text())
    leave_out_variables(file.parent, config)
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    subprocess.run([*pip, *requirements(file.parent, config)], check=True)


if __name__ == "__main__":
    main()
