// One channel with many who follow it: every message reaches everybody, in order and once.

import { sleep } from "k6";
import http from "k6/http";
import { Counter, Rate, Trend } from "k6/metrics";

import { ANSWER_MS, LAST_MS, THRESHOLDS, TREND_STATS, awake, connect, faults, number, seconds, token, url } from "./lib.js";

const delivering = new Trend("tidegate_delivery_ms", true);
const delivered = new Counter("tidegate_deliveries");
/** Followers that heard every message, of all of them. */
const complete = new Rate("tidegate_heard_all");

const sockets = number("SOCKETS", 100);
const rate = number("RATE", 5);
/** Followers come before the first message. */
const JOIN_SECONDS = 5;
const messages = Math.max(1, Math.round(rate * seconds));

export const options = {
  scenarios: {
    followers: {
      executor: "per-vu-iterations",
      vus: sockets,
      iterations: 1,
      maxDuration: `${JOIN_SECONDS + seconds + LAST_MS / 1000 + 5}s`,
      exec: "follow",
    },
    publisher: {
      executor: "per-vu-iterations",
      vus: 1,
      iterations: 1,
      startTime: `${JOIN_SECONDS}s`,
      maxDuration: `${seconds + LAST_MS / 1000}s`,
      exec: "publish",
    },
  },
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...THRESHOLDS,
    tidegate_deliveries: [`count==${sockets * messages}`],
    tidegate_heard_all: ["rate==1"],
    tidegate_delivery_ms: ["p(99)<500"],
    http_req_failed: ["rate==0"],
  },
};

/** Each run has a channel of its own. */
export function setup() {
  awake();
  return { channel: `${__ENV.CHANNEL || "load"}:${Date.now()}` };
}

export function follow({ channel }) {
  let offset = 0;
  let heard = 0;
  connect({
    within: (JOIN_SECONDS + seconds) * 1000 + ANSWER_MS,
    late() {
      complete.add(false);
      return `${heard} of ${messages} messages came`;
    },
    welcome(socket) {
      socket.send({ type: "subscribe", id: "s", channel });
    },
    hear(frame, socket) {
      if (frame.type === "subscribed") offset = frame.offset;
      if (frame.type !== "message") return;
      if (frame.offset !== offset + 1) socket.wrong(`message ${frame.offset} came after ${offset}`);
      offset = frame.offset;
      heard += 1;
      delivering.add(Date.now() - frame.data.sent);
      delivered.add(1);
      if (heard === messages) {
        complete.add(true);
        socket.end();
      }
    },
  });
}

export function publish({ channel }) {
  for (let message = 0; message < messages; message += 1) {
    const begun = Date.now();
    const response = http.post(`${url}/v1/channels/${channel}/messages`, JSON.stringify({ data: { sent: begun, message } }), {
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", "idempotency-key": `k6-${message}` },
      tags: { name: "POST /v1/channels/{channel}/messages" },
    });
    if (response.status !== 201 && response.status !== 200) {
      faults.add(1, { what: `HTTP ${response.status}` });
      console.error(`a message was answered ${response.status}: ${response.body}`);
    }
    sleep(Math.max(0, 1 / rate - (Date.now() - begun) / 1000));
  }
}
