"""Where dbwatch is attached to SQLAlchemy. Installed once for the process and never removed; a switch turns it off.

No ConnectionEvents are used (``before_cursor_execute``, ``begin``, ``commit``, ``engine_disposed``, …): any such
listener, even an empty one, makes every connection about 14 µs dearer for the life of the process (2.0 and 2.1).
"""

from threading import Lock

from dbwatch.hooks import (
    connections,
    driver,
    engines,
    errors,
    limits,
    pool,
    sessions,
    statements,
    unsaved,
    unwinding,
    wait,
)
from dbwatch.hooks.switch import SWITCH

_lock = Lock()
_installed = False
#: What some version of SQLAlchemy lets us tell only approximately; empty when all is exact.
APPROXIMATE: list[str] = []


def install(*, server_limits: bool = False) -> None:
    """Attach to SQLAlchemy if that has not happened yet, and switch on. With ``server_limits``, each pool asks its
    server once what it allows.
    """
    global _installed
    with _lock:
        if not _installed:
            _installed = True
            pool.install()
            connections.install()
            errors.install()
            driver.install()
            sessions.install()
            unsaved.install()
            unwinding.install()
            approximate = wait.install()
            if approximate:
                APPROXIMATE.append(approximate)
            statements.install()
            engines.install()
        limits.install(wanted=server_limits)
        SWITCH.on = True
