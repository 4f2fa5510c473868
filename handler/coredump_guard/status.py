"""What the guard says of itself: for machines as JSON, for people in ten lines.

The running guard makes a report, `coredump-guard status` adds what the kernel and the disk say.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from coredump_guard import arming, pattern, pipedoor
from coredump_guard.capture import rfc3339
from coredump_guard.config import Config
from coredump_guard.spool import Spool

if TYPE_CHECKING:
    from coredump_guard.service import Guard


def report(guard: Guard) -> str:
    """Return the running guard's own part of the status, as JSON."""
    counts, progress = guard.counts, guard.deliverer.progress
    return json.dumps(
        {
            "pid": os.getpid(),
            "since": rfc3339(guard.started),
            "waiting": guard.waiting.qsize(),
            "captured": counts.captured,
            "handed_on": counts.handed_on,
            "missed": counts.missed,
            "last": counts.last,
            "delivered": progress.delivered,
            "broken": progress.broken,
            "delivering": progress.current,
            "delivering_seconds": round(time.time() - progress.current_since) if progress.current else 0,
            "store_error": progress.error,
            "store_failing_since": rfc3339(progress.failing_since) if progress.error else "",
        }
    )


def gather(config: Config) -> dict[str, Any]:
    """Return the whole status; what cannot be learned is None, and "unknown" says why."""
    core_pattern = arming.current().core_pattern
    unknown: dict[str, str] = {}
    return {
        "node": config.node,
        "armed": pattern.is_ours(core_pattern),
        "door": _door(config, core_pattern),
        "core_pattern": core_pattern,
        "original": _original(config, unknown),
        "guard": _ask(config, unknown),
        "spool": {"path": config.spool, **_waiting(config, unknown)},
        "store": config.store,
        "unknown": unknown,
    }


def _original(config: Config, unknown: dict[str, str]) -> str | None:
    try:
        before = arming.original(config)
    except (arming.ArmingError, OSError) as error:
        unknown["original"] = _reason(error)
        return None
    return before.core_pattern if before else None


def _ask(config: Config, unknown: dict[str, str]) -> Any:
    try:
        return json.loads(pipedoor.ask_status(config.guard_socket))
    except PermissionError as error:
        unknown["guard"] = _reason(error)
    except (OSError, ValueError):
        pass  # none is running
    return None


def _waiting(config: Config, unknown: dict[str, str]) -> dict[str, Any]:
    spool = Spool(config.spool)
    try:
        pending = spool.pending()
        return {"dumps": len(pending), "bytes": spool.usage(), "oldest": min(pending, default=None)}
    except FileNotFoundError:  # no guard has run yet
        return {"dumps": 0, "bytes": 0, "oldest": None}
    except OSError as error:
        unknown["spool"] = _reason(error)
        return {"dumps": None, "bytes": None, "oldest": None}


def _reason(error: Exception) -> str:
    return "it takes root" if isinstance(error, PermissionError) else str(error)


def _door(config: Config, core_pattern: str) -> str:
    """Return the door that crashes take, or the one that they would if it were armed."""
    if not pattern.is_ours(core_pattern):
        return arming.door(config)
    return "pipe" if core_pattern.startswith("|") else "socket"


def render(status: dict[str, Any]) -> str:
    """Return the status for a person."""
    guard, spool, unknown = status["guard"], status["spool"], status["unknown"]
    armed = (
        f"yes, {status['door']} door"
        if status["armed"]
        else "NO: crashes do not reach us; coredump-guard arm"
    )
    lines = [
        ("node", status["node"]),
        ("armed", armed),
        ("before us", _before(status)),
    ]
    if "guard" in unknown:
        lines.append(("guard", f"cannot be asked; {unknown['guard']}"))
    elif guard is None:
        lines.append(("guard", "NOT RUNNING; " + _without_guard(status)))
    else:
        lines.append(("guard", f"running as {guard['pid']} since {guard['since']}"))
        lines.append(("crashes", _crashes(guard)))
        lines.append(("last", guard["last"] or "none yet"))
    if "spool" in unknown:
        lines.append(("spool", f"{spool['path']} cannot be read; {unknown['spool']}"))
    else:
        lines.append(("spool", f"{spool['dumps']} dumps, {size(spool['bytes'])} in {spool['path']}"))
    lines.append(("store", status["store"] + ("" if "guard" in unknown else f": {_deliveries(guard)}")))
    return "".join(f"{name:>10}  {text}\n" for name, text in lines)


def _before(status: dict[str, Any]) -> str:
    if "original" in status["unknown"]:
        return f"unknown; {status['unknown']['original']}"
    return status["original"] or "not remembered"


def _without_guard(status: dict[str, Any]) -> str:
    if status["armed"] and status["core_pattern"].startswith("|"):
        return "crashes are captured one at a time, and delivered when it is back"
    return "crashes are LOST; start it" if status["armed"] else "start it with coredump-guard run"


def _crashes(guard: dict[str, Any]) -> str:
    text = f"{guard['captured']} captured, {guard['handed_on']} handed on, {guard['missed']} missed"
    return f"{text}, {guard['waiting']} waiting" if guard["waiting"] else text


def _deliveries(guard: dict[str, Any] | None) -> str:
    if guard is None:
        return "nothing is delivered while the guard is down"
    text = f"{guard['delivered']} delivered"
    if guard["broken"]:
        text += f", {guard['broken']} broken and set aside"
    if guard["store_error"]:
        return f"{text}; FAILING since {guard['store_failing_since']}: {guard['store_error']}"
    if guard["delivering_seconds"] > 30:
        return f"{text}; {guard['delivering']} takes {guard['delivering_seconds']} s already"
    return text


def size(count: float) -> str:
    """Write a number of bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
