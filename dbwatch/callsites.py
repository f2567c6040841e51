"""Which lines of the app's own code led here: SQLAlchemy's, the frameworks' and installed packages' frames left out.

Frames are walked once and reduced to (code object, line number); a kept frame would pin the app's local variables.
Whether a file belongs to the app is decided once and remembered.
"""

import os
import re
import sys
import sysconfig
from collections.abc import Callable
from contextvars import ContextVar
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


# Reading a member off its class takes longer than all else that is done with a frame (Python 3.11).
_OTHER, _APP, _CALLER, _INSTALLED = Part.OTHER, Part.APP, Part.CALLER, Part.INSTALLED


class _Parts(dict[str, Part]):
    """Parts by file name, decided when first asked for. Not by code object: its hash is computed anew each time, from
    its names and constants (0.4 µs), that of a string is kept.
    """

    def __init__(self, decide: Callable[[str], Part]) -> None:
        self._decide = decide

    def __missing__(self, filename: str) -> Part:
        if len(self) >= _REMEMBERED:
            self.clear()
        part = self[filename] = self._decide(filename)
        return part


class AppCode:
    """Decides which code is the app's: what is not installed, or what lies under a root that was chosen."""

    def __init__(self) -> None:
        self._root = ""
        self.parts = _Parts(self._decide)

    def set_root(self, root: str) -> None:
        """Count only files under ``root`` as the app's; empty: everything that is not installed."""
        self._root = os.path.realpath(root) + os.sep if root else ""
        self.parts.clear()

    def owns(self, code: CodeType) -> bool:
        """True if the code object belongs to the app."""
        return self.parts[code.co_filename] is _APP

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

#: Where the app leaves a block that SQLAlchemy ends in a task of its own: no stack leads from there to the app.
LEAVING: ContextVar[Site] = ContextVar("dbwatch_leaving", default=())

try:
    # Once: the directory may be removed later.
    _HERE = str(Path.cwd()) + os.sep
except FileNotFoundError:
    _HERE = os.sep * 2


def call_site(frame: FrameType | None, limit: int = LIMIT, last: CodeType | None = None) -> Site:
    """The app's lines from ``frame`` outwards, innermost first, at most ``limit``, and none beyond the code ``last``:
    to know the endpoint spares a look at what called it.

    An app may be installed itself (``pip install .`` in an image), or leave its database work to a library: where none
    of the code is the app's by its place, installed packages that are no frameworks stand in for it.
    """
    return _lines(frame, limit, _APP, last) or _lines(frame, limit, _INSTALLED, last)


def awaiting_site(frame: FrameType | None, limit: int = LIMIT, last: CodeType | None = None) -> Site:
    """:func:`call_site` for what an asynchronous engine does, in a fraction of the steps: from where the app awaits it.

    Between there and ``frame`` lies a greenlet in which only SQLAlchemy's code runs. Code of the app that SQLAlchemy
    calls in it, an event listener perhaps, is passed over, except what the app itself gave to ``run_sync()``.
    """
    if LEAVING.get():
        return LEAVING.get()
    outer = _beyond_greenlet()
    if outer is not None and outer.f_code.co_name == "greenlet_spawn":
        caller = outer.f_back
        if caller is not None and _is_of_library(caller.f_code):
            site: list[tuple[CodeType, int]] = []
            _walk(caller, site, limit, _APP, last)
            if site:
                return tuple(site)
    return call_site(frame, limit, last)


def _is_of_library(code: CodeType) -> bool:
    """True for a function that runs its own library's code in a greenlet, and not what it was given."""
    return APP_CODE.parts[code.co_filename] is _OTHER and code.co_name != "run_sync"


def _lines(frame: FrameType | None, limit: int, wanted: Part, last: CodeType | None) -> Site:
    """In SQLAlchemy's asyncio the Python stack ends at the greenlet; it goes on in the frame at which the parent
    greenlet, the one that runs the task, stopped. In a task of SQLAlchemy's own it goes on where that is awaited.
    """
    site: list[tuple[CodeType, int]] = []
    if _walk(frame, site, limit, wanted, last):
        left = LEAVING.get()
        if left:
            return (*site, *left)[:limit]
        _walk(_beyond_greenlet(), site, limit, wanted, last)
    return tuple(site)


def _walk(
    frame: FrameType | None, site: list[tuple[CodeType, int]], limit: int, wanted: Part, last: CodeType | None
) -> bool:
    """Add the lines from ``frame`` on to ``site``. True if the stack's end was reached; False if enough were found, or
    the last of them, or a frame of what calls the app: from there to the server, no code had a hand in it.
    """
    parts = APP_CODE.parts
    while frame is not None:
        code = frame.f_code
        part = parts[code.co_filename]
        if part:  # most are OTHER
            if part is wanted:
                site.append((code, line_of(frame)))
                if code is last or len(site) == limit:
                    return False
            elif part is _CALLER:
                return False
        frame = frame.f_back
    return True


def line_of(frame: FrameType) -> int:
    """The line at which a frame is, of a template as it was written and not of the code that Jinja made from it."""
    line = frame.f_lineno or frame.f_code.co_firstlineno  # None in rare moments (cpython gh-94485)
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
