// A worker in Node.js (20 or newer) with nothing but what it brings: runs the action `shout` of a pool until it is told to stop.
//
//   TIDEGATE_URL=http://127.0.0.1:8787 TIDEGATE_TOKEN=… node worker.mjs gpu
//
// The token needs the scope `jobs:work`. It takes one job at a time; run several, or several loops, for more.

import { randomUUID } from "node:crypto";

const url = process.env.TIDEGATE_URL ?? "http://127.0.0.1:8787";
const pool = process.argv[2] ?? "gpu";
const worker = `node-${randomUUID()}`;
let stopping = false;

async function post(path, token, body) {
  const response = await fetch(url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(40_000),
  });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), answer);
  return answer;
}

const lease = (max, wait_ms) =>
  post(`/v1/workers/${pool}:lease`, process.env.TIDEGATE_TOKEN, { max, wait_ms, worker, actions: ["shout"] });

// The work itself. `signal` is aborted where nobody wants the outcome any more.
async function shout(text, signal) {
  signal.throwIfAborted();
  if (typeof text !== "string") throw Object.assign(new Error("The payload is no text."), { permanent: true });
  return text.toUpperCase();
}

async function input(job) {
  if (job.payload_url === undefined) return job.payload;
  const response = await fetch(url + job.payload_url, { headers: { authorization: `Bearer ${job.attempt_token}` } });
  if (!response.ok) throw new Error(`The payload cannot be read: ${response.status}`);
  return response.json();
}

async function run(job) {
  const say = (what, body) => post(`/v1/attempts/${job.job_id}:${what}`, job.attempt_token, body);
  const lost = new AbortController();
  // A sign of life, a third of the lease apart, leaves room for two that get lost.
  const alive = setInterval(() => {
    say("report", {}).then(
      (renewed) => renewed.cancelled_until && lost.abort(),
      (error) => error.code === "LEASE_LOST" && lost.abort(),
    );
  }, job.lease_ms / 3);
  let outcome;
  try {
    outcome = { outcome: "succeeded", result: await shout(await input(job), lost.signal) };
  } catch (error) {
    outcome = { outcome: "failed", error: { message: error.message || "It failed.", retryable: !error.permanent } };
  } finally {
    clearInterval(alive);
  }
  // An outcome said twice counts once, so that it can be said until it is heard.
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await say("finish", outcome);
    } catch (error) {
      if (error.code === "LEASE_LOST") return console.error(error.message);
      if (attempt === 5) throw error;
      await new Promise((later) => setTimeout(later, 500 * attempt));
    }
  }
}

async function work() {
  while (!stopping) {
    try {
      for (const job of (await lease(1, 20_000)).jobs) await run(job);
    } catch (error) {
      if (error.retryable === false) throw error;
      if (!stopping) await new Promise((later) => setTimeout(later, 1000));
    }
  }
}

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    stopping = true;
    // Ends the call that waits; what runs is finished.
    lease(0, 0).catch(() => {});
  });
}

await work();
console.log("stopped");
