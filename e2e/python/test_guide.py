"""LangGraph's guide "Use webhooks", as printed: curl; the SDKs have their own tests."""

from __future__ import annotations

import json
import subprocess
from typing import Any


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "--silent", *arguments], capture_output=True, text=True, check=True).stdout


def test_the_curl_snippets_work_as_printed(serve: Any, receiver: Any) -> None:
    url, hooks = serve().url, receiver()
    thread = json.loads(
        curl("--request", "POST", "--url", f"{url}/threads", "--header", "Content-Type: application/json", "--data", "{}")
    )
    body = {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": "Hello!"}]},
        "webhook": hooks.url,
    }
    streamed = curl(
        *("--request", "POST", "--url", f"{url}/threads/{thread['thread_id']}/runs/stream"),
        *("--header", "Content-Type: application/json", "--data", json.dumps(body)),
    )
    assert streamed.startswith("event: metadata\n") and "event: values" in streamed
    path, _, run = hooks.got.get(timeout=60)
    assert path == "/hook?token=s3cret"
    assert run["status"] == "success" and run["thread_id"] == thread["thread_id"]
    assert run["kwargs"]["input"] == body["input"]
    listed = json.loads(curl(f"{url}/threads/{thread['thread_id']}/runs"))
    assert [it["run_id"] for it in listed] == [run["run_id"]]
