"""Which lines of the app's own code led here: SQLAlchemy's, the frameworks' and installed packages' frames left out.

Frames are walked once and reduced to (code object, line number); a kept frame would pin the app's local variables.
Whether a file belongs to the app is decided once and remembered.
"""

import os
import re
import sys
import sysconfig
from enum import IntEnum
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from dbwatch.records import Site

#: Lines of app code kept for a checkout.
LIMIT = 4

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
        "_pytest", "aiomysql", "aiosqlite", "asgiref", "asyncmy", "asyncpg", "gevent", "greenlet", "gunicorn", "httpx",
        "httpx2", "opentelemetry", "pluggy", "prometheus_client", "psycopg", "psycopg2", "psycopg_pool", "pydantic",
        "pymysql", "pytest", "sentry_sdk", "sqlalchemy", "sqlmodel", "uvloop",
    }
)  # fmt: skip
#: File names remembered; an app that makes code at run time may name ever new ones.
_REMEMBERED = 20_000


#: Packages that call the app. Beyond the first of their frames there is only the server, and what started it.
_CALLERS = frozenset({"anyio", "fastapi", "hypercorn", "starlette", "uvicorn"})
#: Files of those packages that the app calls: what loads lazily in a template or an encoder has the app beyond them.
_CALLED = tuple(os.path.join(*parts) for parts in (("starlette", "templating.py"), ("fastapi", "encoders.py")))


class Part(IntEnum):
    """What a piece of code is to the app. Falsy is what a call site passes over."""

    OTHER = 0
    APP = 1
    CALLER = 2
    INSTALLED = 3


class AppCode:
    """Decides which code is the app's: what is not installed, or what lies under a root that was chosen."""

    def __init__(self) -> None:
        self._root = ""
        #: Parts by file name, filled by :meth:`part_of`. Not by code object: its hash is computed anew each time, from
        #: its names and constants (0.4 µs), that of a string is kept.
        self.known: dict[str, Part] = {}

    def set_root(self, root: str) -> None:
        """Count only files under ``root`` as the app's; empty: everything that is not installed."""
        self._root = os.path.realpath(root) + os.sep if root else ""
        self.known.clear()

    def owns(self, code: CodeType) -> bool:
        """True if the code object belongs to the app."""
        return self.part_of(code.co_filename) is Part.APP

    def part_of(self, filename: str) -> Part:
        """What the code of a file is to the app."""
        part = self.known.get(filename)
        if part is None:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            part = self.known[filename] = self._decide(filename)
        return part

    def _decide(self, filename: str) -> Part:
        # Generated code: "<string>" in SQLAlchemy 2.0, "<sqlalchemy generated ...>" in 2.1, "<frozen importlib...>".
        if filename.startswith("<"):
            return Part.APP if filename.startswith(("<stdin>", "<ipython")) else Part.OTHER
        path = os.path.realpath(filename)
        if path.startswith(_OWN):
            return Part.OTHER
        if self._root and path.startswith(self._root):
            return Part.APP
        installed = _PACKAGE_DIRECTORY.search(path)
        if installed is not None:
            package = installed.group(1).removesuffix(".py")
            if package in _CALLERS:
                return Part.OTHER if path.endswith(_CALLED) else Part.CALLER
            return Part.OTHER if self._root or package in _FRAMEWORKS else Part.INSTALLED
        return Part.OTHER if self._root or path.startswith(_STANDARD) else Part.APP


APP_CODE = AppCode()

try:
    # Once: the directory may be removed later.
    _HERE = str(Path.cwd()) + os.sep
except FileNotFoundError:
    _HERE = os.sep * 2


def call_site(frame: FrameType | None, limit: int = LIMIT) -> Site:
    """The app's lines from ``frame`` outwards, innermost first, at most ``limit``.

    An app may be installed itself (``pip install .`` in an image), or leave its database work to a library: where none
    of the code is the app's by its place, installed packages that are no frameworks stand in for it.
    """
    return _lines(frame, limit, Part.APP) or _lines(frame, limit, Part.INSTALLED)


def _lines(frame: FrameType | None, limit: int, wanted: Part) -> Site:
    """In SQLAlchemy's asyncio the Python stack ends at the greenlet; it goes on in the frame at which the parent
    greenlet, the one that runs the task, stopped.
    """
    site: list[tuple[CodeType, int]] = []
    known = APP_CODE.known
    for _ in range(2):
        while frame is not None:
            code = frame.f_code
            part = known.get(code.co_filename)
            # OTHER, which most frames are, and a file not seen yet are both falsy.
            if part or (part is None and (part := APP_CODE.part_of(code.co_filename))):
                if part is wanted:
                    site.append((code, line_of(frame)))
                    if len(site) == limit:
                        return tuple(site)
                elif part is Part.CALLER:
                    return tuple(site)  # what called the endpoint, down to the server, had no hand in it
            frame = frame.f_back
        frame = _beyond_greenlet()
        if frame is None:
            break
    return tuple(site)


def line_of(frame: FrameType) -> int:
    """The line at which a frame is, of a template as it was written and not of the code that Jinja made from it."""
    line = frame.f_lineno
    if not frame.f_code.co_filename.endswith(".py"):
        template: Any = frame.f_globals.get("__jinja_template__")
        if template is not None:
            return int(template.get_corresponding_lineno(line))
    return line


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
