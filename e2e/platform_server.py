"""Starts the binary on one of the recorded projects, but without the custom app that this server can't mount yet, so that
what is recorded of everything else can be compared: `platform_server.py <binary> <langgraph.json> <port>`."""

import json
import os
import sys
from pathlib import Path

binary, config, port = sys.argv[1:]
project = json.loads(Path(config).read_text())
if project.get("http", {}).get("app", "").endswith(":plain_app"):
    del project["http"]["app"]
    Path(config).write_text(json.dumps(project))
os.execv(binary, [binary, "dev", "--no-reload", "--port", port, "--config", config])
