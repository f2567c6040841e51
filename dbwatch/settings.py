"""The options: their types, defaults, environment variables and checks. Wrong ones are refused here, and only here.

A keyword given to the middleware wins over its environment variable ``DBWATCH_<NAME>``, which wins over the default.
"""

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from dbwatch.facts import Finding

METRICS_PATH = "/metrics"
#: The names of the remarks on a configuration.
ADVICE = (
    "no_pre_ping",
    "more_than_server_allows",
    "share_of_server",
    "long_timeout",
    "more_threads_than_connections",
    "null_pool",
    "unlimited_overflow",
    "more_overflow_than_size",
    "no_recycle",
    "recycle_above_idle_timeout",
)
HEALTH_PATHS = ("/health", "/healthz", "/livez", "/readyz", "/ready")


class ConfigurationError(ValueError):
    """An option of dbwatch is wrong. The message names the option, the value, and what is allowed."""


class Options(TypedDict, total=False):
    """Keyword options of ``DBWatchMiddleware``; see :class:`Settings` for their meaning."""

    enabled: bool
    registry: "CollectorRegistry | None"
    metrics_path: str | None
    exclude: Iterable[str]
    app_root: str
    idle_hold_seconds: float
    repeated_statements: int
    slow_checkout_seconds: float
    on_finding: "Callable[[Finding], object] | None"
    server_timing: bool
    slow_request_seconds: float | None
    dashboard: str | None
    dashboard_auth: "Callable[[Any], Any] | tuple[str, str] | None"
    state_dir: str
    opentelemetry: bool
    readiness_path: str | None
    server_limits: bool
    ignore_advice: Iterable[str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the middleware does.

    Attributes:
        enabled: False makes the middleware hand every request straight to the app and hook nothing.
        registry: The Prometheus registry our metrics appear in; None is prometheus_client's default registry.
        metrics_path: Where our metrics are served unless the app answers there itself; None serves none. A path other
            than the default is ours also where only a catch-all of the app would answer.
        exclude: Paths whose requests are not watched, exact, or every path below one if it ends in ``/*``. The
            metrics path is always excluded.
        app_root: Directory of the app's own code for call sites; empty: all code that is not installed.
        idle_hold_seconds: Idle seconds in one hold from which it is an ``idle_hold``, if they are half of it or more.
        repeated_statements: Runs of the same SELECT in one request from which it is a ``repeated_statement``.
        slow_checkout_seconds: Checkout time from which it is a ``slow_checkout``; half of the pool's timeout if that
            is less.
        on_finding: Called with every finding, in whichever thread proves it; it should return soon.
        server_timing: Add a ``Server-Timing`` header to responses: wait, hold so far, executing, statements.
        slow_request_seconds: Log one line for each request that took longer; None logs none.
        dashboard: Where the live page is served; None serves none.
        dashboard_auth: Who may see the live page: ``(user, password)``, or a function, coroutine functions included,
            that takes the ASGI scope and returns True for who may. None lets in clients of this machine only.
        state_dir: Directory in which the workers of one server show each other their state for the live page; empty:
            one of their own in the system's temporary directory.
        readiness_path: Where a readiness probe is answered: 200, or 503 if a pool is stuck; None answers none.
        server_limits: Let each pool ask its server once, on its first connection, how many connections it allows
            (PostgreSQL, MariaDB, MySQL).
        ignore_advice: Names of remarks on the configuration that are neither logged nor shown.
        opentelemetry: Use the MeterProvider and the TracerProvider that the app has configured, if it has.

    The thresholds and ``app_root`` hold for the process: the middleware built last sets them.
    """

    enabled: bool = True
    registry: "CollectorRegistry | None" = None
    metrics_path: str | None = METRICS_PATH
    exclude: tuple[str, ...] = HEALTH_PATHS
    app_root: str = ""
    idle_hold_seconds: float = 0.5
    repeated_statements: int = 10
    slow_checkout_seconds: float = 1.0
    on_finding: "Callable[[Finding], object] | None" = None
    server_timing: bool = False
    slow_request_seconds: float | None = None
    dashboard: str | None = None
    dashboard_auth: "Callable[[Any], Any] | tuple[str, str] | None" = field(default=None, repr=False)
    state_dir: str = ""
    opentelemetry: bool = True
    readiness_path: str | None = None
    server_limits: bool = False
    ignore_advice: tuple[str, ...] = ()


class Thresholds:
    """The thresholds in force in this process, and what is not to be said."""

    __slots__ = ("idle_hold_seconds", "ignore_advice", "repeated_statements", "slow_checkout_seconds")

    def __init__(self) -> None:
        self.take(Settings())

    def take(self, settings: Settings) -> None:
        """Use those of some settings from now on."""
        self.idle_hold_seconds = settings.idle_hold_seconds
        self.ignore_advice = settings.ignore_advice
        self.repeated_statements = settings.repeated_statements
        self.slow_checkout_seconds = settings.slow_checkout_seconds


THRESHOLDS = Thresholds()


@dataclass(frozen=True, slots=True)
class Option:
    """How one option is read and checked: ``parse`` reads the environment's text, ``check`` returns the value or
    raises ValueError, ``allowed`` says in words what is accepted.
    """

    check: Callable[[Any], Any]
    parse: Callable[[str], Any] | None
    allowed: str
    #: True if a wrong value must not be repeated in the message.
    secret: bool = False


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(value)


def _boolean_text(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError(text)


def _registry(value: Any) -> Any:
    if isinstance(value, type):  # CollectorRegistry instead of CollectorRegistry()
        raise ValueError(value)
    if value is None or (callable(getattr(value, "register", None)) and callable(getattr(value, "collect", None))):
        return value
    raise ValueError(value)


def _path(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/") and not any(c in value for c in "?# \t\n"):
        return value
    raise ValueError(value)


def _optional_path(value: Any) -> str | None:
    return None if value is None else _path(value)


def _optional_path_text(text: str) -> str | None:
    return None if text.strip().lower() in {"", "none", "off"} else text.strip()


def _dashboard(value: Any) -> str | None:
    path = _optional_path(value)
    if path is None or path.strip("/"):
        return None if path is None else path.rstrip("/")
    raise ValueError(value)  # everything lies below "/"


def _auth(value: Any) -> Any:
    if value is None or callable(value):
        return value
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) and part for part in value)
    if pair and ":" not in value[0]:
        return value
    raise ValueError(value)


def _auth_text(text: str) -> tuple[str, ...] | None:
    return tuple(text.split(":", 1)) if text else None


def _state_dir(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if isinstance(path, str) and (not path or os.path.isabs(path)):
        return path
    raise ValueError(value)


def _paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(value)
    return tuple(_path(path) for path in value)


def _list_text(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _advice(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(value)
    names = tuple(value)
    if all(name in ADVICE for name in names):
        return names
    raise ValueError(value)


def _directory(value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str) and (not path or os.path.isdir(path)):
            return path
    raise ValueError(value)


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ValueError(value)


def _optional_seconds(value: Any) -> float | None:
    return None if value is None else _seconds(value)


def _optional_seconds_text(text: str) -> float | None:
    return None if text.strip().lower() in {"", "none", "off"} else float(text)


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2:
        return value
    raise ValueError(value)


def _optional_callable(value: Any) -> Any:
    if value is None or callable(value):
        return value
    raise ValueError(value)


#: Every option by its name: how it is read and checked, and what is allowed.
OPTIONS: dict[str, Option] = {
    "enabled": Option(_boolean, _boolean_text, "True or False (in the environment 1/0, true/false, yes/no, on/off)"),
    "registry": Option(_registry, None, "a prometheus_client CollectorRegistry, or None for the default one"),
    "metrics_path": Option(
        _optional_path,
        _optional_path_text,
        "a path that begins with '/', or None for no metrics page (in the environment: none)",
    ),
    "exclude": Option(
        _paths, _list_text, "a list of paths that begin with '/' and may end in '/*' (in the environment: by commas)"
    ),
    "app_root": Option(_directory, str.strip, "an existing directory, or an empty string for all code not installed"),
    "idle_hold_seconds": Option(_seconds, float, "a number of seconds above 0"),
    "repeated_statements": Option(_count, int, "a whole number from 2 up"),
    "slow_checkout_seconds": Option(_seconds, float, "a number of seconds above 0"),
    "on_finding": Option(_optional_callable, None, "a function that takes a Finding, or None"),
    "server_timing": Option(_boolean, _boolean_text, "True or False (in the environment 1/0, true/false, ...)"),
    "slow_request_seconds": Option(
        _optional_seconds, _optional_seconds_text, "a number of seconds above 0, or None (in the environment: none)"
    ),
    "dashboard": Option(
        _dashboard,
        _optional_path_text,
        "a path like '/dbwatch', but not '/', or None for no live page (in the environment: none)",
    ),
    "dashboard_auth": Option(
        _auth,
        _auth_text,
        "a pair of user and password, neither empty and the user without ':' (in the environment: user:password), a "
        "function that takes the ASGI scope, or None",
        secret=True,
    ),
    "state_dir": Option(_state_dir, str.strip, "an absolute path, or an empty string for a directory of our own"),
    "opentelemetry": Option(_boolean, _boolean_text, "True or False (in the environment 1/0, true/false, ...)"),
    "server_limits": Option(_boolean, _boolean_text, "True or False (in the environment 1/0, true/false, ...)"),
    "ignore_advice": Option(
        _advice, _list_text, f"a list of names out of {', '.join(ADVICE)} (in the environment: by commas)"
    ),
    "readiness_path": Option(
        _optional_path,
        _optional_path_text,
        "a path that begins with '/', or None for no readiness probe (in the environment: none)",
    ),
}


def build(options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from keyword options and the environment.

    Raises:
        ConfigurationError: an option is unknown, or has a value that is not allowed.
    """
    for name in options:
        if name not in OPTIONS:
            close = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ConfigurationError(
                f"dbwatch has no option {name!r}. {hint}The options are: {', '.join(sorted(OPTIONS))}."
            )
    values: dict[str, Any] = {}
    for chosen in fields(Settings):
        option = OPTIONS[chosen.name]
        variable = f"DBWATCH_{chosen.name.upper()}"
        parse: Callable[[Any], Any] | None = None
        if chosen.name in options:
            source, given = chosen.name, options[chosen.name]
        elif option.parse is not None and variable in environment:
            source, given, parse = variable, environment[variable], option.parse
        else:
            continue
        try:
            values[chosen.name] = option.check(given if parse is None else parse(given))
        except ValueError:
            raise _refusal(source, given, option) from None
    return Settings(**values)


def _refusal(source: str, value: Any, option: Option) -> ConfigurationError:
    said = "is wrong" if option.secret else f"is {value!r}"
    return ConfigurationError(f"dbwatch: {source} {said}; allowed is {option.allowed}.")
