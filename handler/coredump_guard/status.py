"""What the guard says of itself: for machines as JSON, for people what is wrong first, and its remedy.

The running guard makes a report, `coredump-guard status` adds what the kernel, the disk and the journal say.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from coredump_guard import account, arming, inventory, journal, log, pattern, pipedoor
from coredump_guard.capture import boot_id, rfc3339
from coredump_guard.config import UNLIMITED, Config
from coredump_guard.journal import Entry
from coredump_guard.spool import Spool
from coredump_guard.words import counted, size

if TYPE_CHECKING:
    from coredump_guard.service import Guard

LAST = 10
"""Crashes that are shown one by one."""
FULL = 90
"""Per cent of the spool's bound from which a person is warned."""
LONG = 30
"""Seconds after which a delivery is mentioned: a big core takes as long, and so does a store that hangs."""


def report(guard: Guard) -> str:
    """Return the running guard's own part of the status, as JSON; counts are since its start."""
    counts, progress = guard.counts, guard.deliverer.progress
    return json.dumps(
        {
            "pid": os.getpid(),
            "since": rfc3339(guard.started),
            "waiting": guard.waiting.qsize(),
            "captured": counts.captured,
            "refused": counts.refused,
            "handed_on": counts.handed_on,
            "missed": counts.missed,
            "last": counts.last,
            "delivered": progress.delivered,
            "broken": progress.broken,
            "evicted": progress.evicted,
            "delivering": progress.current,
            "delivering_seconds": round(time.time() - progress.current_since) if progress.current else 0,
            "store_error": progress.error,
            "store_failing_since": rfc3339(progress.failing_since) if progress.error else "",
            "spool_error": progress.spool_error,
            "nearly_full": sorted(progress.nearly_full.values()),
            "namesakes": progress.namesakes,
            "account": guard.accountant.report(),
            "keeper": guard.keeper.report(),
        }
    )


def gather(config: Config) -> dict[str, Any]:
    """Return the whole status; what cannot be learned is None, and "unknown" says why."""
    core_pattern, door = arming.current().core_pattern, arming.door_in_force(config)
    unknown: dict[str, str] = {}
    found = {
        "node": config.node,
        "armed": door is not None,
        "door": door or arming.door(config),
        "core_pattern": core_pattern,
        "original": _original(config, unknown),
        "guard": _ask(config, unknown),
        "spool": {"path": config.spool, "bound": _bound(config), **_waiting(config, unknown)},
        "store": config.store,
        **_account(config, unknown),
        "unknown": unknown,
    }
    return {"problems": problems(found), **found}


def _bound(config: Config) -> int | None:
    return None if config.spool_size == UNLIMITED else config.spool_size


def _account(config: Config, unknown: dict[str, str]) -> dict[str, Any]:
    """Return the numbers since boot, and the last crashes, newest last; from the journal, guard or not."""
    ledger = account.Ledger(boot_id())
    last: deque[Entry] = deque(maxlen=LAST)
    try:
        for entry in journal.entries(config.state):
            ledger.add(entry)
            if entry.event in account.ENDS:
                last.append(entry)
    except OSError as error:
        unknown["crashes"] = _reason(error)
        return {"crashes": None, "last": None}
    ends = {event.replace(" ", "_"): ledger.counts[event] for event in account.ENDS}
    under_way = ledger.announced - sum(ends.values())
    return {
        "crashes": {"announced": ledger.announced, **ends, "under_way": under_way},
        "last": [inventory.as_json(entry) for entry in last],
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
        return {
            "dumps": len(pending),
            "bytes": spool.usage(),
            "oldest": min(pending, default=None),
            "broken": len(os.listdir(f"{config.spool}/broken")),
        }
    except FileNotFoundError:  # no guard has run yet
        return {"dumps": 0, "bytes": 0, "oldest": None, "broken": 0}
    except OSError as error:
        unknown["spool"] = _reason(error)
        return dict.fromkeys(("dumps", "bytes", "oldest", "broken"))


def _reason(error: Exception) -> str:
    return "it takes root" if isinstance(error, PermissionError) else str(error)


def problems(status: dict[str, Any]) -> list[str]:
    """Return what is wrong, the worst first, each with its remedy."""
    guard, spool = status["guard"], status["spool"]
    found = []
    if not status["armed"]:
        in_force = status["core_pattern"]
        other = ", of another installation of coredump-guard" if pattern.is_ours(in_force) else ""
        found.append(
            f"NOT ARMED: no crash reaches us, core_pattern is {in_force!r}{other}; coredump-guard arm"
        )
    if guard is None and "guard" not in status["unknown"]:
        found.append(f"NOT RUNNING: {_without_guard(status)}")
    found += _problems_of_running(guard) if guard else []
    if spool["bound"] and spool["bytes"] is not None and spool["bytes"] * 100 >= spool["bound"] * FULL:
        found.append(
            f"spool {spool['bytes'] * 100 // spool['bound']} % full: cores are refused when it is; "
            f"see why the store takes nothing, or raise [spool] size"
        )
    if spool["broken"]:
        found.append(
            f"{counted(spool['broken'], 'dump')} set aside in {spool['path']}/broken: "
            f"coredump-guard log says why; remove what you do not need"
        )
    return found


def _problems_of_running(guard: dict[str, Any]) -> list[str]:
    found = []
    keeper, account = guard.get("keeper") or {}, guard["account"]
    if keeper.get("contested"):
        found.append(f"CONTESTED: somebody else sets core_pattern, {keeper['contested']}; find and stop it")
    if guard["store_error"]:
        found.append(
            f"store FAILING since {guard['store_failing_since']}: {guard['store_error']}; "
            f"dumps wait in the spool, mend the store"
        )
    elif guard["delivering_seconds"] > LONG:
        found.append(
            f"store: {guard['delivering']} takes {guard['delivering_seconds']} s already; is it hung?"
        )
    if guard["spool_error"]:
        found.append(f"dumps cannot be read from the spool: {guard['spool_error']}; mend its disk")
    found += [f"quota nearly used up: {usage}" for usage in guard["nearly_full"]]
    if guard["namesakes"]:
        found.append(f"other machines deliver by this node's name: {log.safe(', '.join(guard['namesakes']))}")
    if account["unavailable"]:
        found.append(f"not accounted: {account['unavailable']}")
    if account["lost_at"]:
        found.append(f"not accounted: announcements of crashes were lost, last at {account['lost_at']}")
    return found


def render(status: dict[str, Any]) -> str:
    """Return the status for a person; the crashers' words in it are escaped."""
    lines = [("WRONG", problem) for problem in status["problems"]]
    lines += [
        ("node", status["node"]),
        ("armed", f"yes, {status['door']} door" if status["armed"] else "NO"),
        ("before us", _before(status)),
        ("guard", _guard(status)),
        ("crashes", _crashes(status)),
        ("spool", _spool(status)),
        ("store", status["store"] + _deliveries(status)),
    ]
    lines += [("repaired", text) for text in _repairs(status["guard"])]
    lines += [("last", inventory.line(Entry(**entry))) for entry in status["last"] or []]
    return "".join(f"{name:>10}  {text}\n" for name, text in lines)


def _before(status: dict[str, Any]) -> str:
    if "original" in status["unknown"]:
        return f"unknown; {status['unknown']['original']}"
    return status["original"] or "not remembered"


def _guard(status: dict[str, Any]) -> str:
    if "guard" in status["unknown"]:
        return f"cannot be asked; {status['unknown']['guard']}"
    guard = status["guard"]
    return f"running as {guard['pid']} since {guard['since']}" if guard else "NOT RUNNING"


def _without_guard(status: dict[str, Any]) -> str:
    if status["armed"] and status["core_pattern"].startswith("|"):
        return "crashes are captured one at a time, and delivered when it is back; start it"
    return "crashes are LOST; start it" if status["armed"] else "start it with coredump-guard run"


def _crashes(status: dict[str, Any]) -> str:
    if "crashes" in status["unknown"]:
        return f"cannot be counted; {status['unknown']['crashes']}"
    crashes, guard = status["crashes"], status["guard"]
    ends = ", ".join(f"{crashes[name]} {name.replace('_', ' ')}" for name in list(crashes)[1:-1])
    text = f"{crashes['announced']} since boot: {ends}"
    if crashes["under_way"]:
        text += f", {crashes['under_way']} under way"
    return text + (f", {guard['waiting']} waiting here" if guard and guard["waiting"] else "")


def _spool(status: dict[str, Any]) -> str:
    spool = status["spool"]
    if "spool" in status["unknown"]:
        return f"{spool['path']} cannot be read; {status['unknown']['spool']}"
    bound = f" of {size(spool['bound'])}" if spool["bound"] else ""
    return f"{counted(spool['dumps'], 'dump')}, {size(spool['bytes'])}{bound} in {spool['path']}"


def _deliveries(status: dict[str, Any]) -> str:
    if "guard" in status["unknown"]:
        return ""
    guard = status["guard"]
    if guard is None:
        return ": nothing is delivered while the guard is down"
    return f": {guard['delivered']} delivered since {guard['since']}"


def _repairs(guard: dict[str, Any] | None) -> list[str]:
    keeper = (guard or {}).get("keeper")
    if not keeper or not keeper["repairs"]:
        return []
    times = counted(keeper["repairs"], "time")
    return [f"core_pattern, {times}, last at {keeper['last_repair']}; it was {keeper['changed_to']}"]
