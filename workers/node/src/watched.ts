// Loading code that may do anything: end the process, throw out of a timer, or never be done.

/** The code would have ended the process that loads it. */
export class ProcessExit extends Error {
  override name = "ProcessExit";
}

/** After so long, and again and again, the log says what the others are waiting for. */
const PATIENCE_MS = 10_000;

/** Loads something. What would take the worker away meanwhile, with all that it has loaded, is a failure of this alone. */
export async function watched<T>(what: string, load: () => Promise<T>): Promise<T> {
  const { exit } = process;
  const began = Date.now();
  const waiting = setInterval(() => {
    const seconds = Math.round((Date.now() - began) / 1000);
    console.warn(`${what} has been loading for ${seconds} s; what it waits for at its top level holds up the start`);
  }, PATIENCE_MS);
  let fail: (thrown: unknown) => void = () => {};
  const failed = new Promise<never>((_, reject) => (fail = reject));
  process.on("uncaughtException", fail);
  process.exit = (code) => {
    const error = new ProcessExit(`\`process.exit(${code ?? ""})\` was called while it was loaded`);
    fail(error);
    throw error;
  };
  try {
    return await Promise.race([load(), failed]);
  } finally {
    process.exit = exit;
    process.off("uncaughtException", fail);
    clearInterval(waiting);
  }
}
