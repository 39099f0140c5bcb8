// The checkpointer, held to LangGraph's own validation of checkpointers.

import { connect } from "node:net";

import { validate } from "@langchain/langgraph-checkpoint-validation";
import { afterAll } from "vitest";

import { Connection } from "../src/connection.ts";
import { hello } from "../src/hello.mjs";
import { Kits } from "../src/kit.ts";
import { hostSaver } from "../src/saver.ts";
import { FakeHost, PROJECT } from "./host.ts";

const hosts: FakeHost[] = [];
afterAll(() => Promise.all(hosts.map((host) => host.stop())));

validate({
  checkpointerName: "HostSaver",
  async createCheckpointer() {
    const host = new FakeHost();
    hosts.push(host);
    const socket = connect(host.path);
    socket.write(hello("main", host.token));
    const connection = new Connection(socket, () => {}, () => {});
    // Versions are texts here; the suite's type has numbers.
    return hostSaver(await new Kits().of(PROJECT, undefined), connection) as any;
  },
});
