// Clients that come all at once, as after a deployment: each connects, is welcomed, sends a ping, and goes.
//
// A deployment takes 2,000 upgrades in ten seconds from one address (CONNECTS_BY_ADDRESS): from one machine, RATE stays below 200.

import { Trend } from "k6/metrics";

import { ANSWER_MS, LAST_MS, THRESHOLDS, TREND_STATS, awake, connect, number, seconds } from "./lib.js";

const connecting = new Trend("tidegate_connect_ms", true);
const pinging = new Trend("tidegate_ping_ms", true);

const rate = number("RATE", 150);

export const options = {
  scenarios: {
    storm: {
      executor: "constant-arrival-rate",
      rate,
      timeUnit: "1s",
      duration: `${seconds}s`,
      preAllocatedVUs: 100,
      maxVUs: 1000,
      gracefulStop: `${LAST_MS}ms`,
    },
  },
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...THRESHOLDS,
    tidegate_connect_ms: ["p(99)<1000"],
    tidegate_ping_ms: ["p(99)<500"],
    // As many as were asked for, or the storm was none.
    dropped_iterations: ["count==0"],
  },
};

export const setup = awake;

export default function () {
  const begun = Date.now();
  let asked = 0;
  connect({
    within: ANSWER_MS,
    late: () => "a ping was not answered",
    welcome(socket) {
      connecting.add(Date.now() - begun);
      asked = Date.now();
      socket.ping();
    },
    pong(socket) {
      pinging.add(Date.now() - asked);
      socket.end();
    },
  });
}
