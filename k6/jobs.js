// Jobs with progress, followed on the socket that asked for them: each is acknowledged, tells its progress in order, and ends once.

import { Counter, Trend } from "k6/metrics";

import { ANSWER_MS, LAST_MS, THRESHOLDS, TREND_STATS, awake, connect, number, seconds } from "./lib.js";

const acknowledging = new Trend("tidegate_acknowledgment_ms", true);
const beginning = new Trend("tidegate_first_progress_ms", true);
const ending = new Trend("tidegate_beyond_its_work_ms", true);
const completed = new Counter("tidegate_jobs_completed");

const action = __ENV.ACTION || "core.delay";
/** What one job takes, and in how many steps it says so. */
const ms = number("MS", 500);
const payload = { ms, steps: number("STEPS", 5) };

export const options = {
  scenarios: {
    jobs: {
      executor: "constant-arrival-rate",
      rate: number("RATE", 20),
      timeUnit: "1s",
      duration: `${seconds}s`,
      preAllocatedVUs: 50,
      maxVUs: 500,
      gracefulStop: `${LAST_MS + ms}ms`,
    },
  },
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...THRESHOLDS,
    tidegate_jobs_completed: ["count>0"],
    tidegate_acknowledgment_ms: ["p(99)<500"],
    tidegate_first_progress_ms: ["p(99)<1000"],
    tidegate_beyond_its_work_ms: ["p(99)<1000"],
    dropped_iterations: ["count==0"],
  },
};

export const setup = awake;

export default function () {
  const key = `k6-${__VU}-${__ITER}-${Date.now()}`;
  let begun = 0;
  let seq = -1;
  let percentage = -1;
  let seen = "nothing";
  connect({
    within: ANSWER_MS + ms,
    late: () => `no end of a job within ${ANSWER_MS + ms} ms; the last was ${seen}`,
    welcome(socket) {
      begun = Date.now();
      socket.send({ type: "request", id: "j", action, payload, mode: "async", idempotency_key: key });
    },
    hear(frame, socket) {
      if (frame.type === "usage") return;
      seen = frame.type;
      if (frame.seq <= seq) socket.wrong(`${frame.type} ${frame.seq} came after ${seq}`);
      seq = frame.seq;
      if (frame.type === "acknowledgment") acknowledging.add(Date.now() - begun);
      else if (frame.type === "progress") {
        if (frame.percentage < percentage) socket.wrong(`progress went from ${percentage} to ${frame.percentage}`);
        if (percentage < 0) beginning.add(Date.now() - begun);
        percentage = frame.percentage;
      } else if (frame.type === "complete") {
        ending.add(Date.now() - begun - ms);
        completed.add(1);
        socket.end();
      } else {
        socket.wrong(`a job got ${JSON.stringify(frame)}`);
      }
    },
  });
}
