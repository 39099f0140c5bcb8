// LangGraph gives nodes the store within another one, which gathers operations by looking for them a thousand times a
// second for as long as a run goes on, and which can't list namespaces. What is meant for the host's store goes there at
// once; the connection sends together what comes together.

import type { BaseStore, Operation } from "@langchain/langgraph-checkpoint";

import type { Kit } from "./kit.ts";

interface Batched {
  store: BaseStore;
  start(): void;
  batch(operations: Operation[]): Promise<unknown[]>;
  enqueueOperation(operation: Operation): Promise<unknown>;
}

/** Has the store around this one pass everything on. Versions of LangGraph that do otherwise are left alone. */
export function passOn(kit: Kit, store: BaseStore): void {
  const around = kit.AsyncBatchedStore?.prototype as unknown as Batched | undefined;
  if (typeof around?.start !== "function" || typeof around.enqueueOperation !== "function") return;
  const { start, batch, enqueueOperation } = around;
  around.start = function () {
    if (this.store !== store) start.call(this);
  };
  around.batch = async function (operations) {
    return this.store === store ? await store.batch(operations) : await batch.call(this, operations);
  };
  around.enqueueOperation = async function (operation) {
    return this.store === store ? (await store.batch([operation]))[0] : await enqueueOperation.call(this, operation);
  };
}
