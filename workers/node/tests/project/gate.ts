// Code that goes on until a test lets it go, and a moment longer: whoever does not wait for it is seen to be early.

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Waits until this file is there. */
export async function letGo(until: string): Promise<void> {
  while (!existsSync(until)) await sleep(5);
  await sleep(400);
}
