"""Every finding, once: its name, what proves it, one sentence of cause, one of fix. Data only.

A finding is a proven fact about a request. What is merely suspicious is no finding.
"""

from dataclasses import dataclass

#: Where the page of a finding is published.
PAGES = "https://github.com/dbwatch/dbwatch/blob/main/docs/findings"


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One mistake that dbwatch recognises at run time.

    ``proof`` is the exact condition under which it is reported, ``cause`` what the mistake does to the app, ``fix``
    what to change.
    """

    name: str
    title: str
    proof: str
    cause: str
    fix: str

    @property
    def page(self) -> str:
        """The address of the page with symptom, faulty code and corrected code."""
        return f"{PAGES}/{self.name}.md"


_KINDS = (
    FindingKind(
        "leaked_connection",
        "A connection was not given back",
        "The connection was still checked out when its request had ended and the task or thread that took it had "
        "ended too; or the garbage collector gave it back because nobody did.",
        "The session or connection taken here was never closed, so it keeps a place in the pool until the garbage "
        "collector finds it.",
        "Open the session in a dependency that yields inside `with` or `try/finally`, so that it is closed on every "
        "path, the one through an exception included.",
    ),
    FindingKind(
        "engine_per_request",
        "An engine is created in every request",
        "The same line created an engine for the same URL in two requests, the second of which began after the first "
        "had ended, and the engine before had served no request but the one that created it.",
        "An engine created here in every request brings its own empty pool, so each request pays for a new connection "
        "and the limit of the pool limits nothing.",
        "Create the engine once, at import or in the lifespan, and let requests share it.",
    ),
    FindingKind(
        "blocked_event_loop",
        "A synchronous engine blocks the event loop",
        "A statement, COMMIT, ROLLBACK or the wait for a connection of a synchronous engine ran in the thread of the "
        "event loop that serves the request.",
        "While this line waits for the database, no other request of the process makes progress.",
        "Use an async engine (`create_async_engine`) in `async def`, or declare the endpoint or dependency with plain "
        "`def`, which runs in a thread.",
    ),
    FindingKind(
        "stale_connection",
        "A dead connection was handed out",
        "The first statement on a connection that had lain in the pool failed within a second because the server had "
        "closed it, and the pool does not test connections before use.",
        "The database or the network closed idle connections, and the pool handed one out without a test.",
        "Create the engine with `pool_pre_ping=True`, and set `pool_recycle` below the idle timeout of the server or "
        "proxy.",
    ),
    FindingKind(
        "shared_session",
        "One session is used by several requests at once",
        "Two requests ran statements on the same checked-out connection, or two statements ran on it at the same "
        "time, or a session began a transaction for a request while another one that it had served was still at work "
        "on its response, or SQLAlchemy refused a concurrent use of one session.",
        "A session that several requests or tasks use at once mixes their transactions and data.",
        "Give each request, and each task within it, a session of its own: `Depends(get_db)` with a yield, never a "
        "session in a module or on `app.state`.",
    ),
    FindingKind(
        "lost_write",
        "Changes were lost on a successful response",
        "INSERT, UPDATE or DELETE changed rows of a table that is not temporary, the transaction was neither committed "
        "nor rolled back by the app, the connection's return rolled it back, and the response was a success. Or: a "
        "session was closed before it had sent anything for an object that it was told to save or delete, or that was "
        "changed in a PUT or PATCH which wrote nothing.",
        "The session was closed without a commit, so the changes are gone although the client was told that all went "
        "well.",
        "Commit before the session is closed, or write inside `with session.begin():`.",
    ),
    FindingKind(
        "nested_checkout",
        "A request takes a second connection while it holds one",
        "A request took a connection from a pool with a limit of which it already held one, and the one who held it "
        "was waiting for the one who took it.",
        "When as many requests as the pool has connections each hold one and want another, all of them wait for each "
        "other until the pool's timeout.",
        "Use one session for the whole request, or give the first connection back before taking the second.",
    ),
    FindingKind(
        "idle_hold",
        "A connection was held without running SQL",
        "In one hold no statement, COMMIT or ROLLBACK ran for at least the threshold, and for at least half of the "
        "hold, time not counted in which the holder waited for nothing but its turn; no rows were being streamed, and "
        "the driver's own connection was not handed out.",
        "The connection was kept out of the pool while the request did something else: an HTTP call, a sleep, turning "
        "many rows into objects, sending the response, a background task.",
        "Commit or close the session before the slow part and take a connection again after it; with FastAPI, "
        '`Depends(get_db, scope="function")` gives it back before the response is sent.',
    ),
    FindingKind(
        "repeated_statement",
        "The same statement runs many times in one request",
        "One request, or one message of a websocket, ran the same SELECT with fewer than ten parameters as often as "
        "the threshold or more, each within 0.1 s of the end of the one before.",
        "Rows are fetched one by one (N+1), so the request makes as many round trips as there are rows.",
        "Load them together: `selectinload()` or `joinedload()` on the relationship, or one statement with `IN`.",
    ),
    FindingKind(
        "slow_checkout",
        "Getting a connection took long",
        "A checkout took at least the threshold: one second, or half of the pool's timeout if that is less.",
        "Requests queue for connections or for new ones to be opened.",
        "See who holds the connections meanwhile; shorten those holds first, and raise `pool_size` only if they all "
        "run SQL.",
    ),
    FindingKind(
        "checkout_timeout",
        "No connection became free in time",
        "SQLAlchemy gave up waiting after the pool's timeout.",
        "Every connection was out for the whole time this request was allowed to wait.",
        "Read the report in the log: it names the holders, what they were doing, and the remedies in order.",
    ),
    FindingKind(
        "risky_configuration",
        "A setting will hurt later",
        "An engine's configuration, as found at run time, has a known consequence under load or at a restart.",
        "The setting works until the database restarts or traffic grows.",
        "Change the setting named in the message, or silence the advice by its name.",
    ),
)

#: Every kind of finding by its name.
FINDINGS: dict[str, FindingKind] = {kind.name: kind for kind in _KINDS}
