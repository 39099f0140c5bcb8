// Requests of HTTP, which can say more than those that code of the project gets.

/** What the requests of Node have no word for. */
const UNKNOWN_METHODS = new Set(["CONNECT", "TRACE", "TRACK"]);

/** Whether a request can have this method. */
export function isMethod(method: string): boolean {
  return !UNKNOWN_METHODS.has(method.toUpperCase());
}

/** Where a request was sent, as its URL begins. A client may write anything into `host`, also what leads elsewhere. */
export function origin(scheme: string, host: string | null): string {
  const said = `${scheme}://${host ?? "localhost"}`;
  return URL.canParse(said) ? new URL(said).origin : `${scheme}://localhost`;
}
