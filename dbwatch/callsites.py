"""Which lines of the app's own code led here: SQLAlchemy's, the frameworks' and installed packages' frames left out.

Frames are walked once and reduced to (code object, line number); a kept frame would pin the app's local variables.
Whether a code object belongs to the app is decided once and remembered.
"""

import os
import sys
import sysconfig
from types import CodeType, FrameType
from typing import Any

from dbwatch.records import Site

#: Lines of app code kept for a checkout.
LIMIT = 4
#: Frames looked at before giving up; a request through FastAPI is about 60 frames deep.
DEPTH = 120

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_INSTALLED = tuple(
    {
        os.path.realpath(path) + os.sep
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_paths().get(key))
    }
)
_PACKAGE_DIRECTORIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class AppCode:
    """Decides which code is the app's."""

    def __init__(self) -> None:
        self._root = ""
        self._known: dict[CodeType, bool] = {}

    def set_root(self, root: str) -> None:
        """Count only files under ``root`` as the app's; empty: everything that is not installed."""
        self._root = os.path.realpath(root) + os.sep if root else ""
        self._known.clear()

    def owns(self, code: CodeType) -> bool:
        """True if the code object belongs to the app."""
        known = self._known.get(code)
        if known is None:
            known = self._known[code] = self._is_app(code.co_filename)
        return known

    def _is_app(self, filename: str) -> bool:
        # Generated code: "<string>" in SQLAlchemy 2.0, "<sqlalchemy generated ...>" in 2.1, "<frozen importlib...>".
        if filename.startswith("<"):
            return filename.startswith(("<stdin>", "<ipython"))
        path = os.path.realpath(filename)
        if path.startswith(_OWN) or any(directory in path for directory in _PACKAGE_DIRECTORIES):
            return False
        if self._root:
            return path.startswith(self._root)
        return not path.startswith(_INSTALLED)


APP_CODE = AppCode()


def call_site(frame: FrameType | None, limit: int = LIMIT) -> Site:
    """The app's lines from ``frame`` outwards, innermost first, at most ``limit``.

    In SQLAlchemy's asyncio the Python stack ends at the greenlet; it goes on in the frame that the parent greenlet,
    the task, stopped at.
    """
    site: list[tuple[CodeType, int]] = []
    owns = APP_CODE.owns
    for _ in range(2):
        for _ in range(DEPTH):
            if frame is None:
                break
            code = frame.f_code
            if owns(code):
                site.append((code, frame.f_lineno))
                if len(site) == limit:
                    return tuple(site)
            frame = frame.f_back
        frame = _beyond_greenlet()
        if frame is None:
            break
    return tuple(site)


def _beyond_greenlet() -> FrameType | None:
    greenlet: Any = sys.modules.get("greenlet")  # installed only where SQLAlchemy's asyncio is used
    if greenlet is None:
        return None
    parent = greenlet.getcurrent().parent
    frame: FrameType | None = None if parent is None else parent.gr_frame
    return frame


def describe(site: Site) -> tuple[str, ...]:
    """Each line as ``file:line function``, with the file relative to the working directory where it lies inside."""
    return tuple(f"{_short(code.co_filename)}:{line} {code.co_qualname}" for code, line in site)


def _short(filename: str) -> str:
    here = os.getcwd() + os.sep
    return filename.removeprefix(here)
