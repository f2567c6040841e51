"""One app twice, bare and with dbwatch, each behind proxies of its own, asked the same at the same time."""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.reliability.victims import Maria, Postgres, Victim, furnish
from tests.servers.asgi import UvicornProcess
from tests.servers.pgbouncer import PgBouncer
from tests.servers.proxy import TCPProxy
from tests.servers.waiting import eventually

#: Drivers by the server that they talk to. Each has an engine with pre-ping and one without.
DRIVERS = {
    "postgres": ("psycopg", "psycopg_async", "asyncpg"),
    "mariadb": ("pymysql", "asyncmy"),
    "bouncer": ("psycopg",),
    "lost": ("psycopg", "asyncpg", "pymysql"),
}
#: What differs between two runs of one app: addresses of objects, ports, process and session ids.
_INCIDENTAL = re.compile(r"0x[0-9a-f]+|\b\d{2,}\b")
#: How libpq calls a refused connection. It asks for the socket's error right after connect(), and says that the server
#: has closed the connection if the refusal comes only then: with dbwatch or without, in one of thousands.
_REFUSED = re.compile(
    r"Connection refused\\n\\tIs the server running on that host and accepting TCP/IP connections\?"
    r"|(?<=failed: )server closed the connection unexpectedly"
    r"\\n\\tThis probably means the server terminated abnormally\\n\\tbefore or while processing the request\."
)

#: A connection that was closed or reset without an answer.
_UNANSWERED = (httpx.RemoteProtocolError, httpx.ReadError)

#: A path, and the answers of both apps to come.
Asked = tuple[str, "Future[httpx.Response]", "Future[httpx.Response]"]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def engines(*kinds: str) -> list[str]:
    """The names of the engines that talk to servers of these kinds."""
    return [f"{kind}-{driver}{ping}" for kind in kinds for driver in DRIVERS[kind] for ping in ("", "-ping")]


@dataclass(frozen=True)
class Answer:
    """What a client sees, less what no two runs have in common."""

    status: int
    body: str

    @classmethod
    def of(cls, asked: "Future[httpx.Response]") -> Self:
        """Wait for a response; a connection that is closed or reset without one has the status 0."""
        try:
            response = asked.result()
        except _UNANSWERED as error:
            return cls(0, str(error))
        return cls(response.status_code, _REFUSED.sub("refused", _INCIDENTAL.sub("#", response.text)))


class App:
    """The app in a process of its own, and the proxies between it and the servers."""

    def __init__(self, name: str, ports: Mapping[str, int], log: Path, stack: ExitStack) -> None:
        self.proxies = {kind: stack.enter_context(TCPProxy(port)) for kind, port in ports.items() if kind != "bouncer"}
        urls = {name: self._url(name, ports) for name in engines(*DRIVERS)}
        environment = {"SHOP_ENGINES": json.dumps(urls), "PYTHONFAULTHANDLER": "1"}
        self.process = stack.enter_context(UvicornProcess(f"tests.reliability.shop:{name}", log, env=environment))
        self._client = stack.enter_context(
            httpx.Client(base_url=self.process.url, timeout=60.0, limits=httpx.Limits(max_keepalive_connections=0))
        )

    def _url(self, engine: str, ports: Mapping[str, int]) -> str:
        kind, driver, *_ = engine.split("-")
        dialect, account = ("mariadb", "root") if driver in DRIVERS["mariadb"] else ("postgresql", "postgres")
        database = "test" if dialect == "mariadb" else "postgres"
        host = "nowhere.invalid:1" if kind == "lost" else f"127.0.0.1:{ports[kind]}"
        if kind in self.proxies:
            host = f"127.0.0.1:{self.proxies[kind].port}"
        return f"{dialect}+{driver}://{account}@{host}/{database}"

    def get(self, path: str) -> httpx.Response:
        """One request."""
        return self._client.get(path)

    def state(self) -> dict[str, Any]:
        """What the app itself knows of its pools."""
        found: dict[str, Any] = self.get("/state").json()
        return found

    def samples(self) -> Samples:
        """The metrics page, parsed."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


@dataclass
class Stage:
    """Everything at once; ``differences`` and ``sent`` grow with each request."""

    victims: dict[str, Victim]
    bouncer: PgBouncer
    bare: App
    watched: App
    sent: int = 0
    differences: list[str] = field(default_factory=list)
    _clients: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(64))

    @property
    def apps(self) -> tuple[App, App]:
        """Both."""
        return self.bare, self.watched

    def proxies(self, kind: str) -> list[TCPProxy]:
        """The proxies before a server, one of each app."""
        return [app.proxies[kind] for app in self.apps]

    def heal(self) -> None:
        """Let every proxy forward again."""
        for app in self.apps:
            for proxy in app.proxies.values():
                proxy.restore()

    def wait_until_closed(self, kind: str) -> None:
        """Wait until no connection to a server is left."""
        eventually(lambda: all(not proxy.connections for proxy in self.proxies(kind)))

    def ask(self, names: list[str], page: str, *, at_once: int = 1) -> list[Answer]:
        """Ask one page of each of these engines, of both apps, and compare. Returns what the bare app answered."""
        return self.answers(self.asking(names, page, at_once=at_once))

    def asking(self, names: list[str], page: str, *, at_once: int = 1) -> list[Asked]:
        """Send requests as ``ask`` does, without waiting for the answers."""
        paths = [f"/{name}/{page}" for name in names for _ in range(at_once)]
        self.sent += len(paths)
        submit = self._clients.submit
        return [(path, submit(self._ask_bare, path), submit(self.watched.get, path)) for path in paths]

    def _ask_bare(self, path: str) -> httpx.Response:
        """Ask the app that has never heard of dbwatch. Some time in ten thousands of requests it closes the connection
        before it has read one (psycopg's asynchronous driver, right after its server was killed): that one again.
        """
        try:
            return self.bare.get(path)
        except _UNANSWERED:
            return self.bare.get(path)

    def answers(self, asked: list[Asked]) -> list[Answer]:
        """Wait for the answers, and compare: of several requests for one page, whichever gets which."""
        found: dict[str, tuple[list[Answer], list[Answer]]] = {}
        for path, bare, watched in asked:
            pair = found.setdefault(path, ([], []))
            pair[0].append(Answer.of(bare))
            pair[1].append(Answer.of(watched))
        for path, (bare_answers, watched_answers) in found.items():
            for one, other in zip(sorted(bare_answers, key=str), sorted(watched_answers, key=str), strict=True):
                if one != other:
                    self.differences.append(f"{path}: {one} without dbwatch, {other} with it")
        return [answer for bare_answers, _ in found.values() for answer in bare_answers]


@contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """Start the servers and both apps, and stop them at the end."""
    with ExitStack() as stack:
        postgres, maria = Postgres(), Maria()
        stack.enter_context(postgres.server)
        stack.enter_context(maria.server)
        for victim in (postgres, maria):
            furnish(victim)
        bouncer = stack.enter_context(PgBouncer(postgres.port))
        ports = {"postgres": postgres.port, "mariadb": maria.port, "bouncer": bouncer.port}
        starting = stack.enter_context(ThreadPoolExecutor(2))
        both = [
            starting.submit(App, name, ports, directory / f"{name}.log", stack.enter_context(ExitStack()))
            for name in ("bare", "watched")
        ]
        bare, watched = (each.result() for each in both)
        found = Stage({"postgres": postgres, "mariadb": maria}, bouncer, bare, watched)
        stack.callback(found._clients.shutdown)
        assert not bare.state()["dbwatch"], "the bare app knows dbwatch"
        assert watched.state()["dbwatch"]
        try:
            yield found
        except BaseException as error:
            for app in found.apps:
                error.add_note(f"{app.process.url} is alive: {app.process.process.running}; its last output:")
                error.add_note(app.process.output[-3000:])
            raise
