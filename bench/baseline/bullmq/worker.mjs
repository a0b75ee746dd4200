// The worker's side of BullMQ, a process of its own: an operation that does nothing, as `core.echo`, or tells its progress, as
// `core.delay` of no time. It ends with its parent.
//
//   node bench/baseline/bullmq/worker.mjs PORT QUEUE CONCURRENCY     (started by client.mjs)

import process from "node:process";

import { Worker } from "bullmq";

const [port, queue, concurrency] = process.argv.slice(2);
process.on("disconnect", () => process.exit(0));

/** Answers how long after the sending it was called, in microseconds, or nothing where the client does not ask. */
async function handle(job) {
  const called_us = job.data.sent_us === undefined ? undefined : Number(process.hrtime.bigint() / 1000n) - job.data.sent_us;
  if (job.data.work === "progress") {
    await job.updateProgress(0);
    await job.updateProgress(100);
  }
  return called_us;
}

const worker = new Worker(queue, handle, {
  connection: { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null },
  concurrency: Number(concurrency),
});
worker.on("error", (error) => process.stderr.write(`${error.stack}\n`));
await worker.waitUntilReady();
process.send({ ready: true });
