"""Facts to build documents from: gauges, holders, snapshots and findings with defaults."""

from typing import Any

from dbwatch import Finding, Holder, PoolSnapshot
from dbwatch.outputs.live.document import Gauges, HolderRow


def gauges(**given: Any) -> Gauges:
    """A pool of 5 with 10 overflow, nothing going on."""
    now: dict[str, Any] = {
        "used": 0,
        "idle": 0,
        "size": 5,
        "limit": 15,
        "overflow": 0,
        "waiters": 0,
        "leaked": 0,
        "used_peak": 0,
        "oldest_waiter_seconds": 0.0,
        "oldest_checkout_seconds": 0.0,
        "timeout_seconds": 30.0,
        **given,
    }
    return now  # type: ignore[return-value]


def rows(number: int, state: str, route: str = "/reports", method: str = "GET", *, age: float = 1.0) -> list[HolderRow]:
    """Rows of holders in one state."""
    row: dict[str, Any] = {
        "worker": 1,
        "method": method,
        "route": route,
        "age_seconds": age,
        "state": state,
        "executing_seconds": 0.0,
        "statements": 1,
        "overflow": False,
        "lines": [],
        "now_at": "",
        "made_at": "",
        "last_statement": "",
    }
    return [row.copy() for _ in range(number)]  # type: ignore[misc]


def holder(**given: Any) -> Holder:
    """A holder that has been idle for two seconds."""
    facts: dict[str, Any] = {
        "method": "GET",
        "route": "/reports",
        "age_seconds": 2.0,
        "executing": False,
        "executing_seconds": 0.5,
        "statements": 1,
        "leaked": False,
        "overflow": False,
        "lines": ("app.py:7 report",),
        "last_statement": "SELECT 1",
        **given,
    }
    return Holder(**facts)


def snapshot(name: str = "primary", **given: Any) -> PoolSnapshot:
    """A snapshot of a pool of 5 with 10 overflow."""
    holders = given.get("holders", ())
    facts: dict[str, Any] = {
        "name": name,
        "used": len(holders),
        "idle": 1,
        "size": 5,
        "limit": 15.0,
        "overflow": 0,
        "waiters": 0,
        "leaked": 0,
        "used_peak": len(holders),
        "oldest_waiter_seconds": 0.0,
        "oldest_checkout_seconds": 0.0,
        "timeout_seconds": 30.0,
        "attributes": {"pool_class": "QueuePool", "dialect": "postgresql", "driver": "psycopg", "server": "db:5432"},
        "holders": holders,
        **given,
    }
    return PoolSnapshot(**facts)


def finding(**given: Any) -> Finding:
    """A leak of one code line."""
    facts: dict[str, Any] = {
        "finding": "leaked_connection",
        "at": 100.0,
        "pool": "primary",
        "method": "GET",
        "route": "/leak",
        "request": 1,
        "lines": ("app.py:3 leak",),
        "message": "It is still out.",
        **given,
    }
    return Finding(**facts)
