// Posting to the site: JSON there, JSON or server-sent events back.
const csrf = document.querySelector('meta[name="csrf"]').content;

// Why the site did not do what it was asked, in a sentence for people; `status` 0: it does not answer at all.
export class Refused extends Error {
  constructor(said, status) {
    super(said);
    this.status = status;
  }
}

export async function post(address, body = {}) {
  let response;
  try {
    response = await fetch(address, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-csrf-token": csrf },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refused("The site does not answer. Look whether it still runs, and try again.", 0);
  }
  if (response.ok) return response;
  const said = await response.json().then((answer) => answer.error, () => "The site refused this; try again.");
  throw new Refused(said, response.status);
}

export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) yield JSON.parse(part.slice("data: ".length));
    }
  } catch {
    throw new Refused("The connection broke off before the answers were whole; try again.", 0);
  }
}
