"""A worker in Python (3.9 or newer) with its standard library alone: runs the action `shout` of a pool until it is told to stop.

    TIDEGATE_URL=http://127.0.0.1:8787 TIDEGATE_TOKEN=… python3 worker.py gpu

The token needs the scope `jobs:work`. It takes one job at a time; run several for more.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

URL = os.environ.get("TIDEGATE_URL", "http://127.0.0.1:8787")
TOKEN = os.environ["TIDEGATE_TOKEN"]
POOL = sys.argv[1] if len(sys.argv) > 1 else "gpu"
WORKER = f"python-{uuid.uuid4()}"
stopping = threading.Event()


class Refused(Exception):
    """An answer that is an error, with its `code`."""

    def __init__(self, problem):
        super().__init__(problem.get("detail"))
        self.code, self.retryable = problem.get("code"), problem.get("retryable", False)


class Permanent(Exception):
    """Trying again does not help."""


def ask(path, token, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=40) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(json.load(error)) from error


def lease(most, wait_ms):
    body = {"max": most, "wait_ms": wait_ms, "worker": WORKER, "actions": ["shout"]}
    return ask(f"/v1/workers/{POOL}:lease", TOKEN, body)["jobs"]


def shout(text, lost):
    """The work itself. `lost` is set where nobody wants the outcome any more."""
    if not isinstance(text, str):
        raise Permanent("The payload is no text.")
    return text.upper()


def stay_alive(job, done, lost):
    """A sign of life, a third of the lease apart, leaves room for two that get lost."""
    while not done.wait(job["lease_ms"] / 3000):
        try:
            if "cancelled_until" in ask(f"/v1/attempts/{job['job_id']}:report", job["attempt_token"], {}):
                lost.set()
        except Refused as error:
            if error.code == "LEASE_LOST":
                return lost.set()
        except OSError:
            pass


def run(job):
    done, lost = threading.Event(), threading.Event()
    threading.Thread(target=stay_alive, args=(job, done, lost), daemon=True).start()
    try:
        payload = job["payload"] if "payload" in job else ask(job["payload_url"], job["attempt_token"])
        outcome = {"outcome": "succeeded", "result": shout(payload, lost)}
    except Exception as error:
        failure = {"message": str(error) or "It failed.", "retryable": not isinstance(error, Permanent)}
        outcome = {"outcome": "failed", "error": failure}
    finally:
        done.set()
    # An outcome said twice counts once, so that it can be said until it is heard.
    for attempt in range(1, 6):
        try:
            return ask(f"/v1/attempts/{job['job_id']}:finish", job["attempt_token"], outcome)
        except Refused as error:
            if error.code == "LEASE_LOST" or not error.retryable:
                return print(error, file=sys.stderr)
        except OSError:
            pass
        time.sleep(0.5 * attempt)


def stop(*_):
    stopping.set()
    # Ends the call that waits; what runs is finished.
    threading.Thread(target=lambda: lease(0, 0), daemon=True).start()


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
while not stopping.is_set():
    try:
        for job in lease(1, 20_000):
            run(job)
    except Refused as error:
        if not error.retryable:
            raise
        stopping.wait(1)
    except OSError:
        stopping.wait(1)
print("stopped")
