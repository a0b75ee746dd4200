// A board of jobs that live on the server. The page may be cut off or reloaded at any moment: it attaches to them again, and each
// ends here as it ended there, once.

import { Connection, Refused } from "/shared/connection.js";
import { Outbox } from "/shared/outbox.js";
import { ask, enter, session, token } from "/shared/session.js";
import { statusBar } from "/shared/status.js";

/** What can be started: by the button's name. */
const STARTS = {
  report: { title: "Report on zips.csv", payload: { object: "zips.csv" } },
  count: { title: "Count to 1,000", payload: { to: 1000, ms: 20_000 } },
  fail: { title: "Fail after retries", payload: { message: "This one always fails.", retryable: true } },
};
const ENDED = ["succeeded", "failed", "cancelled", "expired"];

await enter(document.querySelector("dialog"));
const { url } = await session();
const connection = new Connection({ url, token, onStatus: statusBar(document.querySelector(".status")) });
const outbox = new Outbox("jobs");
const board = document.querySelector("#board");
const cards = new Map();

/** A job on the board; before it is stored, a request that is on its way. */
class Card {
  constructor(title) {
    this.element = document.querySelector("#card").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.element.querySelector(name);
    this.part(".title").textContent = title;
    this.part("progress").setAttribute("aria-label", `Progress of ${title}`);
    this.part(".cancel").addEventListener("click", () => this.cancel());
    this.part(".open").addEventListener("click", () => this.open());
    this.show("sending", "Sending…");
    board.prepend(this.element);
    document.querySelector("#empty").hidden = true;
  }

  show(state, says, percentage) {
    this.element.dataset.state = state;
    this.part(".state").textContent = state;
    if (says !== undefined) this.part(".says").textContent = says;
    if (percentage !== undefined) this.part("progress").value = percentage;
    // There is nothing to cancel before it is stored, nor after its end.
    this.part(".cancel").hidden = state === "sending" || ENDED.includes(state);
  }

  /** It is stored, and known by its id from now on. */
  store(job_id) {
    this.job_id = job_id;
    this.part(".id").textContent = job_id;
    cards.set(job_id, this);
  }

  /** What is heard of the job. Frames of a type that is not known say nothing here. */
  event(frame) {
    switch (frame.type) {
      case "snapshot":
        return this.show(frame.status, frame.message ?? "", frame.percentage);
      case "progress":
        return this.show("running", frame.message ?? `${frame.percentage} %`, frame.percentage);
      case "retrying":
        return this.show("retrying", `Attempt ${frame.attempt}: ${frame.error.message}`);
      case "complete":
        return this.succeed(frame.result);
      case "error":
        return this.fail(frame.error);
    }
  }

  succeed(result) {
    this.show("succeeded", outcome(result), 100);
    this.report = result?.report?.html;
    this.part(".open").hidden = this.report === undefined;
  }

  fail({ code, message }) {
    const states = { CANCELLED: "cancelled", EXPIRED: "expired" };
    this.show(states[code] ?? "failed", message);
  }

  async cancel() {
    this.part(".cancel").disabled = true;
    // The end comes as an event, as every end does.
    await connection.cancel(this.job_id).catch((error) => this.show(this.element.dataset.state, error.message));
    this.part(".cancel").disabled = false;
  }

  /** An address alone shows nothing, because a browser sends no token with it: the page fetches the report and opens what it got. */
  async open() {
    const response = await ask(url, `/v1/objects/${encodeURIComponent(this.report)}`);
    window.open(URL.createObjectURL(await response.blob()), "_blank", "noopener");
  }
}

/** What came of it, in a few words. */
function outcome(result) {
  if (result === null || typeof result !== "object") return String(result);
  const facts = Object.entries(result).filter(([, value]) => typeof value !== "object");
  return facts.map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`).join(", ");
}

// Starting one. It is in the outbox until it is stored: a reload sends it again, with the same key, and it is the same job.

async function start({ key, action, title, payload }) {
  const card = new Card(title);
  let job_id;
  const listener = { event: (frame) => cards.get(job_id).event(frame), lost: (error) => cards.get(job_id).fail(error) };
  try {
    const accepted = await connection.start(action, payload, listener, { key, metadata: { title } });
    ({ job_id } = accepted);
    // After a reload the list may have been quicker.
    if (cards.has(job_id)) card.element.remove();
    else {
      card.store(job_id);
      card.show(accepted.status, "Stored: it will end, whatever happens to this page.");
    }
  } catch (error) {
    // Only what was refused is over. Anything else is sent again after a reload.
    if (!(error instanceof Refused)) return;
    card.fail(error);
  }
  outbox.remove({ key });
}

for (const button of document.querySelectorAll("[data-start]")) {
  const action = button.dataset.start;
  button.addEventListener("click", () => start(outbox.add({ action, ...STARTS[action] })));
}

// The jobs that there are already.

async function load() {
  const { jobs } = await (await ask(url, "/v1/jobs?limit=20")).json();
  for (const job of jobs.reverse()) {
    if (cards.has(job.job_id)) continue;
    const card = new Card(job.metadata?.title ?? job.action);
    card.store(job.job_id);
    card.show(job.status, job.progress?.message ?? "", job.progress?.percentage);
    if (job.status === "succeeded") card.succeed(job.result);
    else if (ENDED.includes(job.status)) card.fail(job.error);
    else connection.attach(job.job_id, { event: (frame) => card.event(frame), lost: (error) => card.fail(error) }, job.seq);
  }
}

await load().catch(() => {});
for (const item of outbox.items) start(item);
// Others may have started some meanwhile, in another tab.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && load().catch(() => {}));
