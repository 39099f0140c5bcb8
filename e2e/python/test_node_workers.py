"""Workers of Node: changed code, and runs that kill, fill or hold them up."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, until
from langgraph_sdk import get_sync_client

PACKAGES = ROOT / "target/test-env/node/node_modules"


@pytest.fixture(autouse=True)
def packages() -> None:
    assert PACKAGES.is_dir(), "`cargo xtask test` installs the packages of graphs in TypeScript; run it once"


GRAPH = """
import { existsSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Annotation, START, StateGraph } from "@langchain/langgraph";
import { said } from "./said.ts";

const State = Annotation.Root({
  gate: Annotation<string>,
  how: Annotation<string>,
  said: Annotation<string>,
  pid: Annotation<number>,
  attempts: Annotation<number[]>({ reducer: (known, more) => known.concat(more), default: () => [] }),
});

async function first(_: typeof State.State, config: any) {
  return { attempts: [config.metadata.run_attempt] };
}

async function act({ how, gate }: typeof State.State, config: any) {
  const again = config.metadata.run_attempt > 1;
  // What was just written is on its way.
  if (how === "exit" && !again) await sleep(100).then(() => process.exit(3));
  if (how === "throw" && !again) setTimeout(() => { throw new Error("nobody catches this"); });
  if (how === "reject") void Promise.reject(new Error("nobody waits for this"));
  if (how === "fill") for (const hoard: unknown[] = []; ; ) hoard.push(Array.from({ length: 1e5 }, (_, i) => ({ i })));
  if (how === "spin") for (;;);
  if (gate) writeFileSync(`${gate}.waits`, "");
  while (gate && !existsSync(gate)) await sleep(20);
  if (how === "throw" && !again) await sleep(5_000);
  return { said, pid: process.pid, attempts: [config.metadata.run_attempt] };
}

export const graph = new StateGraph(State)
  .addNode("first", first)
  .addNode("act", act)
  .addEdge(START, "first")
  .addEdge("first", "act")
  .compile();
"""


@pytest.fixture
def folder(project: Any) -> Path:
    files = {"agent.ts": GRAPH, "said.ts": 'export const said = "ONE";', "package.json": '{"type": "module"}'}
    made = project({"agent": "./agent.ts:graph"}, files)
    (made / "node_modules").symlink_to(PACKAGES)
    return made


def wait(server: Any, **given: Any) -> dict[str, Any]:
    return get_sync_client(url=server.url).runs.wait(None, "agent", input=given)


def test_changed_code_is_used_by_new_runs_and_broken_code_by_none(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(folder, reload=True)
    first = wait(server)
    assert first["said"] == "ONE"
    gate, result = tmp_path / "gate", []
    run = threading.Thread(target=lambda: result.append(wait(server, gate=str(gate))))
    run.start()
    until((tmp_path / "gate.waits").exists, "no run")

    (folder / "said.ts").write_text('export const said = "TWO";')
    until(lambda: wait(server)["said"] == "TWO", lambda: f"the change was not loaded:\n{server.log()}")
    (folder / "said.ts").write_text("export const said = ")
    until(lambda: "going on with what was loaded before" in server.log(), lambda: server.log())
    assert wait(server)["said"] == "TWO"
    gate.touch()
    run.join(120)
    assert (result[0]["said"], result[0]["pid"]) == ("ONE", first["pid"]), "a run ends with the code it began with"


@pytest.mark.parametrize("how", ["exit", "throw"])
def test_a_run_whose_worker_ended_goes_on_from_its_last_checkpoint(serve: Any, folder: Path, how: str) -> None:
    server = serve(folder)
    # What comes before is kept for sure.
    ended = get_sync_client(url=server.url).runs.wait(None, "agent", input={"how": how}, durability="sync")
    assert (ended["said"], ended["attempts"]) == ("ONE", [1, 2])


def test_what_nobody_waits_for_takes_no_run_away(serve: Any, folder: Path) -> None:
    server = serve(folder)
    assert wait(server, how="reject")["attempts"] == [1, 1]
    server.wait_for_log("nobody waits for this")


def test_memory_is_limited_and_a_run_that_fills_it_fails_alone(serve: Any, folder: Path) -> None:
    server = serve(folder, NODE_OPTIONS="--max-old-space-size=150")
    pid = wait(server)["pid"]
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "agent", input={"how": "fill"})["run_id"]
    client.runs.join(thread_id, run_id)
    assert client.runs.get(thread_id, run_id)["status"] == "error"
    assert wait(server)["pid"] != pid
    server.wait_for_log("heap out of memory")


def test_a_node_that_never_lets_go_is_ended_with_its_worker(serve: Any, folder: Path) -> None:
    server = serve(folder)
    pid = wait(server)["pid"]
    client = get_sync_client(url=server.url)
    thread_id = client.threads.create()["thread_id"]
    run_id = client.runs.create(thread_id, "agent", input={"how": "spin"})["run_id"]
    server.wait_for_log("the event loop has been blocked for")
    server.wait_for_log("at act (")
    client.runs.cancel(thread_id, run_id)
    until(lambda: client.runs.get(thread_id, run_id)["status"] == "interrupted", lambda: server.log())
    ended = wait(server)
    assert ended["pid"] != pid
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker goes on", 120)


def test_each_worker_has_its_share_of_the_memory(serve: Any, folder: Path) -> None:
    server = serve(folder, "--workers", "2")
    pid = wait(server)["pid"]
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    [limit] = [int(it.partition("=")[2]) for it in command if it.startswith("--max-old-space-size=")]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    assert 256 <= limit <= max(256, machine // 4)
