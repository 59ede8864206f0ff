// A conversation with one model or two: asking, watching the answers come, voting, and what comes after.
import { Refused, events, post } from "./ask.js";

const page = document.querySelector(".talk");
const mode = page.dataset.mode;
const at = (selector) => page.querySelector(selector);
const [conversation, status, failure, vote, reveal, tools, ask, prompt, shared] = [
  "#conversation", "#status", "#failure", "#vote", "#reveal", "#tools", "#ask", "#prompt", "#shared",
].map(at);
const KEYS = { 1: "model_a", 2: "tie", 3: "both_bad", 4: "model_b", ArrowLeft: "model_a", ArrowRight: "model_b" };

let talk = null; // its id and token, as the site gave them
let busy = false;
let votable = false;

function say(text) {
  status.textContent = text;
}

function fail(error) {
  if (!(error instanceof Refused)) throw error;
  say("");
  failure.hidden = false;
  failure.firstElementChild.textContent = error.message;
  if (error.status === 404 || error.status === 410) closed();
}

// A conversation that cannot go on: only a new one can be begun.
function closed() {
  votable = false;
  if (vote) vote.hidden = true;
  ask.hidden = true;
  tools.hidden = false;
  for (const tool of tools.querySelectorAll("button, a, .hint")) tool.hidden = tool.id !== "new";
  at("#new").classList.replace("quiet", "primary");
}

function working(now) {
  busy = now;
  at("#ask button").disabled = now;
  for (const id of ["#again", "#new", "#share"]) at(id).disabled = now;
  if (at("#stop") && !now) at("#stop").hidden = true;
  if (vote) for (const button of vote.querySelectorAll("[data-winner]")) button.disabled = now || !votable;
}

const number = (id) => (at(id)?.value ? Number(at(id).value) : null);

async function open() {
  const models = [...page.querySelectorAll(".model")].map((select) => select.value);
  const sampling = { temperature: number("#temperature"), top_p: number("#top_p"), max_tokens: number("#max_tokens"), seed: number("#seed") };
  const body = mode === "battle" ? { mode } : { mode, models, system: at("#system").value, ...sampling };
  talk = await (await post("/talks", body)).json();
  for (const [id, kind] of [["#markdown", "md"], ["#json", "json"]]) at(id).href = `/talks/${talk.id}/export.${kind}`;
}

function begin(text) {
  const turn = at("#turn").content.cloneNode(true).firstElementChild;
  turn.querySelector(".prompt").textContent = text;
  turn.querySelectorAll(".head h2").forEach((heading, side) => (heading.textContent = talk.names[side]));
  conversation.append(turn);
  conversation.hidden = false;
  return turn;
}

function paneOf(turn, side) {
  return turn.querySelectorAll(".pane")[side];
}

function receive(turn, event) {
  const pane = "side" in event ? paneOf(turn, event.side) : null;
  const answer = pane?.querySelector(".answer");
  if ("piece" in event) {
    answer.classList.add("raw");
    answer.append(event.piece);
  } else if ("html" in event) {
    answer.classList.remove("raw");
    answer.innerHTML = event.html; // made and cleaned by the site
    pane.querySelector(".facts-line").textContent = event.facts;
    pane.setAttribute("aria-busy", "false");
    const copy = pane.querySelector(".copy");
    copy.disabled = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(event.text);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
  } else if ("aside" in event) {
    throw new Refused(event.aside, 410);
  } else if ("error" in event) {
    throw new Refused(event.error, 0);
  } else if (event.end) {
    votable = event.votable && Boolean(vote);
    say(event.said);
  }
}

// Has the models write a turn, and shows it; what it gives says whether the prompt was taken.
async function write(address, text) {
  const [before, could] = [address === "regenerate" ? conversation.lastElementChild : null, votable];
  failure.hidden = true;
  shared.hidden = true;
  votable = false;
  working(true);
  let turn = null;
  try {
    if (!talk) await open();
    const response = await post(`/talks/${talk.id}/${address}`, { prompt: text });
    if (before) before.hidden = true;
    turn = begin(text);
    if (at("#stop")) at("#stop").hidden = false;
    say(mode === "chat" ? "Writing …" : "Both are writing …");
    turn.focus({ preventScroll: true });
    turn.scrollIntoView({ block: "nearest" });
    for await (const event of events(response)) receive(turn, event);
    before?.remove();
    tools.hidden = false;
    prompt.placeholder = "Go on with this conversation";
    if (vote) vote.hidden = !votable;
    return true;
  } catch (error) {
    for (const pane of turn?.querySelectorAll(".pane") ?? []) pane.setAttribute("aria-busy", "false");
    fail(error);
    if (ask.hidden) return true; // set aside: what was written stays to be read
    turn?.remove(); // what came to nothing: the conversation is as it was before
    if (before) before.hidden = false;
    votable = could;
    if (vote) vote.hidden = !votable;
    return false;
  } finally {
    working(false);
  }
}

ask.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (busy || !text) return;
  if (at("#suggestions")) at("#suggestions").hidden = true;
  prompt.value = "";
  if (!(await write("turns", text))) prompt.value ||= text; // what came to nothing can be sent again
});

prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask.requestSubmit();
  }
});

at("#again").addEventListener("click", () => {
  if (!busy) write("regenerate", conversation.lastElementChild.querySelector(".prompt").textContent);
});
at("#stop")?.addEventListener("click", () => post(`/talks/${talk.id}/stop`).catch(fail));
at("#new").addEventListener("click", () => location.reload());

async function cast(winner) {
  if (busy || !votable) return;
  failure.hidden = true;
  working(true);
  for (const button of vote.querySelectorAll("[data-winner]")) button.setAttribute("aria-pressed", String(button.dataset.winner === winner));
  const reasons = [...vote.querySelectorAll(".reasons input:checked")].map((box) => box.value);
  try {
    const answer = await (await post(`/talks/${talk.id}/vote`, { token: talk.token, winner, reasons, comment: at("#comment").value })).json();
    votable = false;
    vote.hidden = true;
    ask.hidden = true;
    at("#again").hidden = true;
    for (const hint of tools.querySelectorAll(".hint")) hint.hidden = true;
    at("#new").classList.replace("quiet", "primary");
    for (const turn of conversation.children) {
      turn.querySelectorAll(".head h2").forEach((heading, side) => (heading.textContent = answer.models[side]));
      if (winner === "model_a") paneOf(turn, 0).classList.add("won");
      if (winner === "model_b") paneOf(turn, 1).classList.add("won");
    }
    reveal.innerHTML = answer.html; // made by the site, which escapes all that is not its own
    reveal.hidden = false;
    say("Your vote is counted.");
    reveal.querySelector("h2").focus();
  } catch (error) {
    fail(error); // the choice stays marked, so that it can be given again
  } finally {
    working(false);
  }
}

for (const button of vote?.querySelectorAll("[data-winner]") ?? []) button.addEventListener("click", () => cast(button.dataset.winner));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (!votable || typing || event.ctrlKey || event.altKey || event.metaKey || !at("#keys").checked) return;
  if (event.key in KEYS) {
    event.preventDefault();
    cast(KEYS[event.key]);
  }
});

// Asked once, after the first vote: whether conversations may be published.
reveal?.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-agreed]");
  if (!button) return;
  try {
    const answer = await (await post(`/talks/${talk.id}/consent`, { agreed: button.dataset.agreed === "yes" })).json();
    at("#consent").remove();
    say(answer.said);
  } catch (error) {
    fail(error);
  }
});

at("#share").addEventListener("click", () => {
  shared.hidden = false;
  shared.querySelector("button").focus();
});

// The share box asks for consent, and holds the link or takes it back: its buttons say what is posted.
shared.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  try {
    const answer = await (await post(`/talks/${talk.id}/${button.dataset.post}`)).json();
    shared.innerHTML = answer.html; // made by the site
    shared.querySelector("input, button").focus();
  } catch (error) {
    fail(error);
  }
});

for (const chip of page.querySelectorAll(".chip-button")) {
  chip.addEventListener("click", () => {
    for (const other of page.querySelectorAll(".chip-button")) other.setAttribute("aria-pressed", String(other === chip));
    for (const list of page.querySelectorAll(".suggestions ul")) list.hidden = list.dataset.domain !== chip.dataset.domain;
  });
}
for (const suggestion of page.querySelectorAll(".suggestion")) {
  suggestion.addEventListener("click", () => {
    prompt.value = suggestion.textContent;
    prompt.focus();
  });
}
