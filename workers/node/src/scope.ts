// On whose behalf code is running: the run or the call whose slot checkpoints and store requests name.

import { AsyncLocalStorage } from "node:async_hooks";

/** The root checkpoint a run wrote last, as the thread's state shows it. */
export interface Checkpointed {
  id: string;
  parent: string | null;
  createdAt: string;
  metadata: Record<string, unknown>;
}

/** A run or a call in progress. */
export class Scope {
  /** The run's slot, or the id of the host's request. */
  readonly slot: number;
  /** Whether checkpoints are sent without waiting for their commit. */
  oneWay = false;
  /** The thread whose newest root checkpoint is known from the start. */
  thread: string | undefined;
  /** That checkpoint; null says that there is none. */
  head: Record<string, any> | null = null;
  /** Whether nothing has read or replaced `head` yet. */
  headUnread = false;
  /** What its checkpoints say of it, beside what langgraph does. */
  described: Record<string, unknown> = {};
  last: Checkpointed | undefined;
  /** Whether a task of this run has recorded an interrupt. */
  interrupted = false;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #goingOn = new Set<Promise<unknown>>();

  constructor(slot: number) {
    this.slot = slot;
  }

  /** Sends what is being prepared when everything before it has been sent: serialising takes a while, the order counts. */
  async inOrder<T>(prepared: Promise<T>, send: (value: T) => void): Promise<void> {
    const before = this.#turn;
    const sent = Promise.all([prepared, before]).then(([value]) => send(value));
    this.#turn = sent.catch(() => {});
    await sent;
  }

  /** Waits until everything that was to be sent in order has been sent. */
  async settled(): Promise<void> {
    await this.#turn;
  }

  /** Knows of code that goes on, which aborting a run does not stop by itself. */
  track<T>(running: Promise<T>): Promise<T> {
    const tracked: Promise<unknown> = running.catch(() => {}).then(() => this.#goingOn.delete(tracked));
    this.#goingOn.add(tracked);
    return running;
  }

  /** Waits for the code that goes on. */
  async idle(): Promise<void> {
    while (this.#goingOn.size > 0) await Promise.all(this.#goingOn);
  }
}

const storage = new AsyncLocalStorage<Scope>();
const NOBODY = new Scope(0);

/** The scope of the code that runs now. */
export function currentScope(): Scope {
  return storage.getStore() ?? NOBODY;
}

/** Runs code in a scope. */
export function within<T>(scope: Scope, code: () => T): T {
  return storage.run(scope, code);
}
