// What every scenario needs: where the deployment is, and one socket with its answers.
//
// TIDEGATE_URL, TIDEGATE_TOKEN and SECONDS come from `cargo xtask load`, or by hand: k6 run -e TIDEGATE_URL=… k6/requests.js

import { fail } from "k6";
import http from "k6/http";
import { Counter, Rate } from "k6/metrics";
import { WebSocket } from "k6/websockets";

/** What was answered wrongly, not at all, or twice. Every scenario asks for none. */
export const faults = new Counter("tidegate_faults");
/** Sockets that were welcomed, of those that were opened. */
export const welcomed = new Rate("tidegate_welcomed");

/** Of every scenario, beside its own. */
export const THRESHOLDS = { tidegate_faults: ["count==0"], tidegate_welcomed: ["rate==1"] };

/** What the summary shows of a time. */
export const TREND_STATS = ["min", "med", "p(95)", "p(99)", "max", "count"];

function wanted(name) {
  const value = __ENV[name];
  if (!value) fail(`${name} is missing: \`cargo xtask load\` gives it, or k6 run -e ${name}=…`);
  return value;
}

export const url = wanted("TIDEGATE_URL").replace(/\/$/, "");
export const token = wanted("TIDEGATE_TOKEN");
export const seconds = Number(__ENV.SECONDS || 10);
/** A number of the scenario's, which the environment can change. */
export const number = (name, otherwise) => Number(__ENV[name] || otherwise);

/** Waits until the deployment answers: the first request to an instance compiles it, and is none of the load. */
export function awake() {
  const { status, error, body } = http.get(`${url}/readyz`, { timeout: "30s" });
  if (status !== 200) fail(`${url}/readyz is not ready: ${status === 0 ? error : `${status} ${body}`}`);
}

/** How long the last answers may take once a scenario is over. */
export const LAST_MS = 10_000;
/** How long any answer may take: less, so that what is late is a fault before k6 ends it. */
export const ANSWER_MS = 8_000;

/**
 * Opens a socket. `welcome(socket)` is called once it may be used, and `hear(frame, socket)` for each frame after that. A fault is counted, and
 * closes it; not to have ended after `within` milliseconds is one, which `late()` describes.
 */
export function connect({ within, late = () => "a socket had no end", welcome, hear = () => {}, pong = () => {} }) {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/v1/connect`, ["tidegate.v1", `bearer.${token}`]);
  let there = false;
  let over = false;
  let timer;
  const end = () => {
    over = true;
    // A timer that waits would keep the iteration.
    clearTimeout(timer);
    socket.close();
  };
  const wrong = (what) => {
    if (over) return;
    faults.add(1, { what });
    console.error(what);
    if (!there) welcomed.add(false);
    there = true;
    end();
  };
  timer = setTimeout(() => wrong(there ? late() : `no welcome within ${within} ms`), within);
  const send = (frame) => socket.send(JSON.stringify(frame));
  const self = { send, ping: () => socket.send('{"type":"ping"}'), wrong, end };
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.type === "welcome") {
      there = true;
      welcomed.add(true);
      welcome(self);
    } else if (frame.type === "pong") {
      pong(self);
    } else if (frame.type === "goodbye" || (frame.type === "error" && frame.seq === undefined)) {
      wrong(`the server said ${data}`);
    } else {
      hear(frame, self);
    }
  };
  socket.onerror = ({ error }) => wrong(`the socket failed: ${error}`);
  socket.onclose = ({ code }) => wrong(`the server closed with ${code}`);
  return self;
}
