// What a decision takes elsewhere: the limits of bench/src/admission.rs by @upstash/ratelimit on a Redis, and a closed
// breaker of cockatiel and of opossum.
//
//   node bench/baseline/admission/decide.mjs --port N --ms 1000
//
// Redis listens on 127.0.0.1:N. Prints one line of JSON, each figure in microseconds for a decision:
//   {"limits_alone", "limits_beside", "cockatiel", "opossum"}
// "alone": one after the other, "beside": 64 under way at a time.

import { createHash } from "node:crypto";
import process from "node:process";
import { parseArgs } from "node:util";

import { Ratelimit } from "@upstash/ratelimit";
import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleAll } from "cockatiel";
import Redis from "ioredis";
import CircuitBreaker from "opossum";

const { values: options } = parseArgs({ options: { port: { type: "string" }, ms: { type: "string" } } });
const MS = Number(options.ms);
/** Users who take turns, as in bench/src/admission.rs. */
const USERS = 100;
const BESIDE = 64;
/** Breakers are too quick for a clock to be read at each call. */
const CALLS_BETWEEN_LOOKS = 1000;

const connection = new Redis({ host: "127.0.0.1", port: Number(options.port), enableAutoPipelining: true });
/** A flag in the first line of their scripts that their own service knows and Redis does not. */
const THEIR_FLAG = " flags=allow-key-locking";
/** Their scripts by the hash they are asked for by, with the hash that Redis knows them by. */
const loaded = new Map();
/** What @upstash/ratelimit asks of its client, on the protocol of Redis itself: their own client speaks HTTP to their service. */
const redis = {
  evalsha(hash, keys, args) {
    const known = loaded.get(hash);
    if (known === undefined) throw new Error("NOSCRIPT");
    return connection.evalsha(known, keys.length, ...keys, ...args);
  },
  async eval(script, keys, args) {
    const known = await connection.script("LOAD", script.replace(THEIR_FLAG, ""));
    loaded.set(createHash("sha1").update(script).digest("hex"), known);
    return connection.evalsha(known, keys.length, ...keys, ...args);
  },
};

// The rates and the quota of `three_limits`. Its quota slides as well.
const limiter = (prefix, limiter) => new Ratelimit({ redis, prefix, limiter, timeout: 0 });
const perUser = limiter("user", Ratelimit.tokenBucket(1_000_000, "1 m", 1_000_000));
const all = limiter("all", Ratelimit.tokenBucket(1_000_000, "10 s", 1_000_000));
const daily = limiter("daily", Ratelimit.slidingWindow(1_000_000_000, "1 d"));

/** One decision: all three at once, which is quickest. Unlike ours, a refusal of one would not give back what the others took. */
async function admitted(user) {
  const answers = await Promise.all([perUser.limit(user), all.limit("tenant"), daily.limit(user)]);
  if (!answers.every((answer) => answer.success)) throw new Error("refused: nothing should be here");
}

async function limits(beside) {
  let decided = 0;
  const end = performance.now() + MS;
  const begun = performance.now();
  const one = async () => {
    while (performance.now() < end) {
      await admitted(`user-${decided++ % USERS}`);
    }
  };
  await Promise.all(Array.from({ length: beside }, one));
  return ((performance.now() - begun) * 1000) / decided;
}

/** A breaker around a function that is done at once. */
async function breaker(call) {
  let calls = 0;
  const begun = performance.now();
  while (performance.now() < begun + MS) {
    for (let n = 0; n < CALLS_BETWEEN_LOOKS; n += 1) await call();
    calls += CALLS_BETWEEN_LOOKS;
  }
  return ((performance.now() - begun) * 1000) / calls;
}

const work = async () => 1;
const cockatiel = circuitBreaker(handleAll, { halfOpenAfter: 10_000, breaker: new ConsecutiveBreaker(5) });
const opossum = new CircuitBreaker(work, { timeout: false, errorThresholdPercentage: 50, resetTimeout: 10_000 });

const figures = {
  limits_alone: await limits(1),
  limits_beside: await limits(BESIDE),
  cockatiel: await breaker(() => cockatiel.execute(work)),
  opossum: await breaker(() => opossum.fire()),
};
if (cockatiel.state !== CircuitState.Closed || opossum.opened) throw new Error("a breaker has opened");
process.stdout.write(`${JSON.stringify(figures)}\n`);
opossum.shutdown();
await connection.quit();
