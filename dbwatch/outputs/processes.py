"""Other processes of this machine: whether one lives, and when it was started."""

import os
from pathlib import Path

_ENDED = "ended"


def is_alive(pid: int) -> bool:
    """True if a process of this number runs. One that has ended runs no more, also while its parent has not waited for
    it: in a container whose first process is no init, that may be for ever.
    """
    if os.name == "nt":
        return True  # there, signal 0 is Ctrl-C
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return start_of(pid) != _ENDED


def start_of(pid: int) -> str:
    """When a process was started, in the kernel's ticks; "x" where the kernel does not say (no Linux)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "x"
    fields = text.rpartition(")")[2].split()
    # A zombie has ended, although its number is still taken.
    return _ENDED if fields[0] in "ZX" else fields[19]
