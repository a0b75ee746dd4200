// Requests that are answered on the spot: on sockets in a closed loop, and over HTTP at a rate.

import { check } from "k6";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";

import { ANSWER_MS, LAST_MS, THRESHOLDS, TREND_STATS, awake, connect, faults, number, seconds, token, url } from "./lib.js";

const answering = new Trend("tidegate_response_ms", true);
const answered = new Counter("tidegate_responses");

const action = __ENV.ACTION || "core.echo";
const payload = (order) => ({ order, customer: "Example Trading Company", currency: "EUR", lines: [1, 2, 3, 4], note: "by noon" });

export const options = {
  scenarios: {
    sockets: {
      executor: "per-vu-iterations",
      vus: number("SOCKETS", 20),
      iterations: 1,
      maxDuration: `${seconds + LAST_MS / 1000}s`,
      exec: "sockets",
    },
    http: {
      executor: "constant-arrival-rate",
      rate: number("RATE", 50),
      timeUnit: "1s",
      duration: `${seconds}s`,
      preAllocatedVUs: 50,
      exec: "overHttp",
    },
  },
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...THRESHOLDS,
    tidegate_responses: ["count>0"],
    tidegate_response_ms: ["p(99)<250"],
    "http_req_duration{scenario:http}": ["p(99)<500"],
    http_req_failed: ["rate==0"],
    checks: ["rate==1"],
  },
};

export const setup = awake;

export function sockets() {
  const until = Date.now() + seconds * 1000;
  let order = 0;
  let sent = 0;
  const ask = (socket) => {
    order += 1;
    sent = Date.now();
    socket.send({ type: "request", id: String(order), action, payload: payload(order) });
  };
  connect({
    within: seconds * 1000 + ANSWER_MS,
    late: () => `request ${order} was not answered`,
    welcome: ask,
    hear(frame, socket) {
      if (frame.type === "usage") return;
      if (frame.type !== "response" || frame.request_id !== String(order) || frame.data.order !== order) {
        socket.wrong(`to request ${order} came ${JSON.stringify(frame)}`);
        return;
      }
      answering.add(Date.now() - sent);
      answered.add(1);
      if (Date.now() < until) ask(socket);
      else socket.end();
    },
  });
}

export function overHttp() {
  const order = Date.now();
  const response = http.post(`${url}/v1/requests`, JSON.stringify({ action, payload: payload(order) }), {
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    tags: { name: "POST /v1/requests" },
  });
  const right = check(response, {
    "answered with its own payload": ({ status, body }) => status === 200 && JSON.parse(body).data.order === order,
  });
  if (!right) faults.add(1, { what: `HTTP ${response.status}` });
}
