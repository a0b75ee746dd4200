// A state directory belongs to one running server: two runtimes over the same SQLite files would damage each other's work.

import childProcess from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";

const file = (directory) => path.join(directory, "server.json");

/** What the process `pid` was started as, or "" when there is none. */
function commandOf(pid) {
  if (!Number.isInteger(pid)) return "";
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    if (fs.existsSync("/proc/self")) return "";
  }
  const found = childProcess.spawnSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
  return found.stdout ?? "";
}

function readOwner(directory) {
  try {
    return JSON.parse(fs.readFileSync(file(directory), "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * Notes who runs on `directory`. Refuses when another server is alive there, and ends a runtime that a killed server left
 * behind.
 */
export function claimState(directory, owner) {
  fs.mkdirSync(directory, { recursive: true });
  const before = readOwner(directory);
  if (before !== undefined && before.pid !== process.pid) {
    if (commandOf(before.pid).includes("serve.mjs")) {
      throw new Error(`${directory} is in use by the server with process id ${before.pid}; stop it or choose another --state.`);
    }
    if (commandOf(before.workerd_pid).includes("workerd")) process.kill(before.workerd_pid, "SIGKILL");
  }
  fs.writeFileSync(file(directory), JSON.stringify(owner));
}

/** Gives `directory` back. */
export function releaseState(directory) {
  if (readOwner(directory)?.pid === process.pid) fs.rmSync(file(directory), { force: true });
}
