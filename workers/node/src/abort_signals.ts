// Signals that stop code. Everything that goes on at the same time in a run listens to one of them.

import { EventEmitter, getMaxListeners, setMaxListeners } from "node:events";

/**
 * Has nobody warned of a leak where a step of a graph has more than ten nodes, tools or models. LangGraph makes a signal
 * for each step, so that listeners end with it. Newer versions of Node know no such limit.
 */
export function letManyListen(): void {
  if (!isLimited(new AbortController().signal)) return;
  const { addEventListener } = EventTarget.prototype;
  AbortSignal.prototype.addEventListener = function (this: AbortSignal, ...args: Parameters<typeof addEventListener>) {
    if (isLimited(this)) setMaxListeners(Infinity, this);
    addEventListener.apply(this, args);
  };
}

/** Whether a signal has the limit that all have; one that somebody has set stays. */
function isLimited(signal: AbortSignal): boolean {
  try {
    return getMaxListeners(signal) === EventEmitter.defaultMaxListeners;
  } catch {
    // Node can't tell the limit of what has none.
    return false;
  }
}
