// People who come and go: each iteration has a channel of its own, somebody who watches it, and somebody who joins and leaves. Who
// watches is told of both, once each.

import { Counter, Trend } from "k6/metrics";

import { ANSWER_MS, LAST_MS, THRESHOLDS, TREND_STATS, awake, connect, number, seconds } from "./lib.js";

const joining = new Trend("tidegate_join_ms", true);
const leaving = new Trend("tidegate_leave_beyond_grace_ms", true);
const seen = new Counter("tidegate_members_seen");

/** The namespace's `presence_grace`: as long as that, one who is gone is still there. */
const grace = number("GRACE_MS", 5000);
const data = { mood: "busy" };

export const options = {
  scenarios: {
    presence: {
      executor: "constant-arrival-rate",
      rate: number("RATE", 20),
      timeUnit: "1s",
      duration: `${seconds}s`,
      preAllocatedVUs: 200,
      maxVUs: 1000,
      gracefulStop: `${LAST_MS + grace}ms`,
    },
  },
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...THRESHOLDS,
    tidegate_members_seen: ["count>0"],
    tidegate_join_ms: ["p(99)<500"],
    tidegate_leave_beyond_grace_ms: ["p(99)<2000"],
    dropped_iterations: ["count==0"],
  },
};

export const setup = awake;

export default function () {
  const channel = `${__ENV.CHANNEL || "load"}:presence-${__VU}-${__ITER}-${Date.now()}`;
  let asked = 0;
  let gone = 0;

  /** Joins, is shown in the list it gets, and leaves once it was seen. */
  const join = () =>
    connect({
      within: ANSWER_MS,
      welcome(member) {
        asked = Date.now();
        member.send({ type: "subscribe", id: "m", channel, presence: { data } });
      },
      hear(frame, member) {
        if (frame.type !== "subscribed") return;
        const own = frame.presence?.members ?? [];
        if (own.length !== 1 || own[0].data?.mood !== data.mood) member.wrong(`who joined was shown ${JSON.stringify(frame)}`);
      },
    });

  let member;
  connect({
    within: ANSWER_MS + grace,
    late: () => (asked === 0 ? "nobody could watch" : `a ${gone === 0 ? "join" : "leave"} was not told`),
    welcome(watcher) {
      watcher.send({ type: "subscribe", id: "w", channel, presence: { member: false } });
    },
    hear(frame, watcher) {
      if (frame.type === "subscribed") {
        if (frame.presence?.count !== 0) watcher.wrong(`an empty channel has ${JSON.stringify(frame.presence)}`);
        else member = join();
      } else if (frame.type === "join" && gone === 0) {
        joining.add(Date.now() - asked);
        gone = Date.now();
        member.end();
      } else if (frame.type === "leave" && gone > 0) {
        leaving.add(Date.now() - gone - grace);
        if (Date.now() - gone < grace) watcher.wrong(`a leave was told ${grace - (Date.now() - gone)} ms before the end of the grace`);
        seen.add(1);
        watcher.end();
      } else if (frame.type === "join" || frame.type === "leave") {
        watcher.wrong(`told out of turn: ${JSON.stringify(frame)}`);
      }
    },
  });
}
