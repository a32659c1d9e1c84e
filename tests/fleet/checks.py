"""What the checks of this folder share."""

import time

# The wait for anything; no result depends on it.
PATIENCE_S = 60


def check(is_true, message):
    if not is_true:
        raise SystemExit(f"FAILED: {message}")


def until(condition, what, patience_s=PATIENCE_S):
    """What the condition gives once that is true."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"FAILED: waited {patience_s} s for {what}")
