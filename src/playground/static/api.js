// Requests to the server.

const ENDED = "the playground does not answer; start it again with make play, then reload this page";

async function send(path, body, signal) {
  let response;
  try {
    response = await fetch(`api/${path}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal,
    });
  } catch (error) {
    throw signal?.aborted ? error : new Error(ENDED);
  }
  if (response.ok) return response;
  let answer = {};
  try { answer = await response.json(); } catch { /* not from our code */ }
  throw new Error(answer.error ?? "the playground failed; its terminal says why");
}

export async function post(path, body) {
  return (await send(path, body)).json();
}

// Calls `use` with each line of the answer.
export async function stream(path, body, use, signal) {
  const reader = (await send(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const each = JSON.parse(line);
        if (each.error) throw new Error(each.error);
        use(each);
      }
    }
  } catch (error) {
    throw error instanceof TypeError && !signal?.aborted ? new Error(ENDED) : error;
  }
}

// A function that runs `work` on its newest arguments, one run at a time: what a slider skips is never asked for.
export function latest(work) {
  let waiting = null, running = null;
  const run = async () => {
    while (waiting) {
      const args = waiting;
      waiting = null;
      await work(...args);
    }
    running = null;
  };
  return (...args) => {
    waiting = args;
    running ??= run();
    return running;
  };
}
