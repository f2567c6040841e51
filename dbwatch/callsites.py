"""Which lines of the app's own code led here: SQLAlchemy's, the frameworks' and installed packages' frames left out.

Frames are walked once and reduced to (code object, line number); a kept frame would pin the app's local variables.
Whether a code object belongs to the app is decided once and remembered.
"""

import os
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from dbwatch.records import Site

#: Lines of app code kept for a checkout.
LIMIT = 4
#: Frames looked at before giving up; a request through FastAPI is about 60 frames deep.
DEPTH = 120

_OWN = str(Path(__file__).resolve().parent) + os.sep
_STANDARD = tuple(
    {
        os.path.realpath(path) + os.sep
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_paths().get(key))
    }
)
_PACKAGE_DIRECTORY = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
#: Installed packages that stand between the app and its database, or between the server and the app.
_FRAMEWORKS = frozenset(
    {
        "_pytest", "aiomysql", "aiosqlite", "anyio", "asgiref", "asyncmy", "asyncpg", "fastapi", "gevent", "greenlet",
        "gunicorn", "httpx", "httpx2", "hypercorn", "opentelemetry", "pluggy", "prometheus_client", "psycopg",
        "psycopg2", "psycopg_pool", "pydantic", "pymysql", "pytest", "sentry_sdk", "sqlalchemy", "sqlmodel",
        "starlette", "uvicorn", "uvloop",
    }
)  # fmt: skip
#: Code objects remembered; an app that makes code at run time has ever new ones.
_REMEMBERED = 20_000


class AppCode:
    """Decides which code is the app's: what is not installed, or what lies under a root that was chosen."""

    def __init__(self) -> None:
        self._root = ""
        self._known: dict[CodeType, bool] = {}
        self._known_installed: dict[CodeType, bool] = {}

    def set_root(self, root: str) -> None:
        """Count only files under ``root`` as the app's; empty: everything that is not installed."""
        self._root = os.path.realpath(root) + os.sep if root else ""
        self._known.clear()
        self._known_installed.clear()

    def owns(self, code: CodeType) -> bool:
        """True if the code object belongs to the app."""
        known = self._known.get(code)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[code] = self._is_app(code.co_filename)
        return known

    def may_own(self, code: CodeType) -> bool:
        """True if the code object is installed, but neither the standard library nor a framework: an app that was
        installed itself (``pip install .`` in an image), or a library it leaves its database work to."""
        known = self._known_installed.get(code)
        if known is None:
            if len(self._known_installed) >= _REMEMBERED:
                self._known_installed.clear()
            known = self._known_installed[code] = not self._root and _is_installed_app(code.co_filename)
        return known

    def _is_app(self, filename: str) -> bool:
        # Generated code: "<string>" in SQLAlchemy 2.0, "<sqlalchemy generated ...>" in 2.1, "<frozen importlib...>".
        if filename.startswith("<"):
            return filename.startswith(("<stdin>", "<ipython"))
        path = os.path.realpath(filename)
        if path.startswith(_OWN) or _PACKAGE_DIRECTORY.search(path):
            return False
        return path.startswith(self._root) if self._root else not path.startswith(_STANDARD)


def _is_installed_app(filename: str) -> bool:
    path = os.path.realpath(filename)
    package = _PACKAGE_DIRECTORY.search(path)
    return package is not None and package.group(1).removesuffix(".py") not in _FRAMEWORKS and not path.startswith(_OWN)


APP_CODE = AppCode()

try:
    # Once: the directory may be removed later.
    _HERE = str(Path.cwd()) + os.sep
except FileNotFoundError:
    _HERE = os.sep * 2


def call_site(frame: FrameType | None, limit: int = LIMIT) -> Site:
    """The app's lines from ``frame`` outwards, innermost first, at most ``limit``.

    Where none of the code is the app's by its place, installed packages that are no frameworks stand in for it.
    """
    return _lines(frame, limit, APP_CODE.owns) or _lines(frame, limit, APP_CODE.may_own)


def _lines(frame: FrameType | None, limit: int, owns: Callable[[CodeType], bool]) -> Site:
    """In SQLAlchemy's asyncio the Python stack ends at the greenlet; it goes on in the frame at which the parent
    greenlet, the one that runs the task, stopped."""
    site: list[tuple[CodeType, int]] = []
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
    return filename.removeprefix(_HERE)
