// The client's side of BullMQ: does the work that bench/src/bullmq.rs asks for, and says how long it took.
//
//   node bench/baseline/bullmq/client.mjs --port N
//
// Redis listens on 127.0.0.1:N. Requests come on stdin, answers go to stdout, each a line of JSON; the first line says that
// the worker, a process of its own, is ready. It ends when stdin does.
//
//   {"do": "bulk", "jobs": 6000, "batch": 1000}                      → {"took_ms"}
//   {"do": "closed", "in_flight": 320, "warm_up_ms": 500, "ms": 3000} → {"took_ms", "completion_us": […]}
//   {"do": "paced", "rate": 100, "warm_up_ms": 500, "ms": 3000, "progress": true}
//       → {"stored_us", "completion_us", "progress_us", "called_us"}

import { fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import process from "node:process";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Queue, QueueEvents } from "bullmq";

const { values: options } = parseArgs({ options: { port: { type: "string" } } });
const QUEUE = "bench";
/** The same as the places of a shard (docs/reference/limits.md). */
const CONCURRENCY = 128;
/** How often it is asked whether anything is left; as bench/src/jobs.rs asks Tidegate. */
const POLL_MS = 20;
/** The answers of a run come this soon after it, or it has failed. */
const ANSWER_MS_MAX = 60_000;

const connection = { host: "127.0.0.1", port: Number(options.port) };
const queue = new Queue(QUEUE, { connection });
await queue.waitUntilReady();

const here = path.dirname(fileURLToPath(import.meta.url));
const worker = fork(path.join(here, "worker.mjs"), [options.port, QUEUE, String(CONCURRENCY)], {
  stdio: ["ignore", "inherit", "inherit", "ipc"],
});
worker.once("exit", (code) => process.exit(code ?? 1));
await once(worker, "message");

/** The same payload as the jobs of Tidegate have; `sent_us` says when, by the clock that all processes share. */
const data = (order, work, sent_us) => ({ order, customer: "Example Trading Company", note: "by noon", work, sent_us });
const now_us = () => Number(process.hrtime.bigint() / 1000n);

/** Enqueues `jobs` in calls of `batch`, one after another, and waits until none is left. */
async function bulk({ jobs, batch }) {
  const started = now_us();
  for (let first = 0; first < jobs; first += batch) {
    const count = Math.min(batch, jobs - first);
    await queue.addBulk(Array.from({ length: count }, (_, i) => ({ name: "echo", data: data(first + i, "echo") })));
  }
  const until = Date.now() + ANSWER_MS_MAX;
  for (;;) {
    const left = await queue.getJobCounts("wait", "active", "prioritized", "delayed");
    if (Object.values(left).every((count) => count === 0)) break;
    if (Date.now() > until) throw new Error(`jobs are left: ${JSON.stringify(left)}`);
    await sleep(POLL_MS);
  }
  const failed = await queue.getFailedCount();
  if (failed > 0) throw new Error(`${failed} jobs failed`);
  return { took_ms: (now_us() - started) / 1000 };
}

/** Follows the events of the queue while `run` goes on. */
async function following(run) {
  // From this moment on: its own beginning, which is its first read, would come after the first jobs.
  const events = new QueueEvents(QUEUE, { connection, lastEventId: String(Date.now()) });
  await events.waitUntilReady();
  events.on("failed", ({ failedReason }) => {
    throw new Error(`a job failed: ${failedReason}`);
  });
  try {
    return await run(events);
  } finally {
    await events.close();
  }
}

/** What events say of jobs, some of which come before the call that adds the job is answered. */
class Awaited {
  #waiting = new Map();
  #early = new Map();

  happened(id, value) {
    const resolve = this.#waiting.get(id);
    if (resolve === undefined) this.#early.set(id, value);
    else resolve(value);
    this.#waiting.delete(id);
  }

  of(id) {
    if (!this.#early.has(id)) return new Promise((resolve) => this.#waiting.set(id, resolve));
    const value = this.#early.get(id);
    this.#early.delete(id);
    return Promise.resolve(value);
  }
}

/** Keeps `in_flight` jobs under way, each followed by the next when it has ended. */
function closed({ in_flight, warm_up_ms, ms }) {
  return following(async (events) => {
    const ended = new Awaited();
    events.on("completed", ({ jobId }) => ended.happened(jobId, now_us()));
    const from = now_us() + warm_up_ms * 1000;
    const to = from + ms * 1000;
    const completion_us = [];
    let order = 0;
    let last = from;
    const lane = async () => {
      while (now_us() < to) {
        const sent = now_us();
        const { id } = await queue.add("echo", data(order++, "echo", sent));
        const at = await ended.of(id);
        if (at < from || at >= to) continue;
        completion_us.push(at - sent);
        last = Math.max(last, at);
      }
    };
    await within(Promise.all(Array.from({ length: in_flight }, lane)), ms);
    return { took_ms: (last - from) / 1000, completion_us };
  });
}

/** Adds `rate` jobs a second whatever becomes of them. With `progress`, they report 0 % as they start, and 100 %. */
function paced({ rate, warm_up_ms, ms, progress }) {
  return following(async (events) => {
    const [ended, begun] = [new Awaited(), new Awaited()];
    events.on("completed", ({ jobId, returnvalue }) => ended.happened(jobId, { at: now_us(), called_us: Number(returnvalue) }));
    events.on("progress", ({ jobId, data }) => data === 0 && begun.happened(jobId, now_us()));
    const start = now_us();
    const [from, to] = [start + warm_up_ms * 1000, start + (warm_up_ms + ms) * 1000];
    const figures = { stored_us: [], completion_us: [], progress_us: [], called_us: [] };
    const one = async (order, counts) => {
      const sent = now_us();
      const { id } = await queue.add("job", data(order, progress ? "progress" : "echo", sent));
      const stored = now_us();
      const first = progress ? await begun.of(id) : undefined;
      const { at, called_us } = await ended.of(id);
      if (!counts) return;
      figures.stored_us.push(stored - sent);
      figures.completion_us.push(at - sent);
      figures.called_us.push(called_us);
      if (progress) figures.progress_us.push(first - sent);
    };
    const jobs = [];
    for (let order = 0; ; order += 1) {
      const due = start + (order * 1e6) / rate;
      if (due >= to) break;
      const wait = (due - now_us()) / 1000;
      if (wait > 0) await sleep(wait);
      jobs.push(one(order, due >= from));
    }
    await within(Promise.all(jobs), ms);
    return figures;
  });
}

/** Waits for `promise`, some time longer than the run takes. */
function within(promise, ms) {
  const late = sleep(ms + ANSWER_MS_MAX, undefined, { ref: false }).then(() => {
    throw new Error("answers did not come");
  });
  return Promise.race([promise, late]);
}

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ ready: true, worker_pid: worker.pid });
const does = { bulk, closed, paced };
for await (const line of readline.createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  answer(await does[request.do](request));
}
worker.kill();
process.exit(0);
