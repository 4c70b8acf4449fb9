// Requests to the server. Errors have the one line that the command prints.

/** An answer of the server that is an error, or no answer. `retryAfter` is in seconds, null where none was named. */
export class ApiError extends Error {
  constructor(message, status, code = null, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

/** Return an address with parameters, those that are null or undefined left out. */
export function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Send a request; return the response, or throw an ApiError. */
export async function send(method, path, { body = null, signal = null } = {}) {
  const options = { method, signal };
  if (body !== null) Object.assign(options, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is m3video serve still running?", 0);
  }
  if (response.ok) return response;
  throw await errorOf(response);
}

/** Return the error that a response tells. */
export async function errorOf(response) {
  let [message, code] = [`The server answered ${response.status} ${response.statusText}`, null];
  try {
    const { error, detail } = await response.json();
    if (error) [message, code] = [error.message, error.code];
    else if (Array.isArray(detail)) message = detail.map((one) => `${one.loc.at(-1)}: ${one.msg}`).join("; ");
  } catch {
    // no JSON: the status line says what is known
  }
  if (response.status === 401) dispatchEvent(new Event("key-wanted"));
  const wait = Number(response.headers.get("Retry-After"));
  return new ApiError(message, response.status, code, wait > 0 ? wait : null);
}

/** Send a request and return the JSON of the answer. */
export const json = async (method, path, options) => (await send(method, path, options)).json();

/** Yield the JSON values of a stream of server-sent events, until its end. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
        if (data && data !== "[DONE]") yield JSON.parse(data); // after that the server ends the stream
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
