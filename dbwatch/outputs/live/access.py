"""Who may see the page: clients of this machine, or whoever the app lets in. Others get a bare refusal."""

import base64
import binascii
import hmac
import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum, auto
from ipaddress import ip_address
from typing import Any, Final

Scope = MutableMapping[str, Any]
#: Takes the ASGI scope of a request and says whether its client may see the page; may be a coroutine function.
Decide = Callable[[Scope], "bool | Awaitable[bool]"]
Credentials = tuple[str, str]

#: Headers by which a proxy says that the client is somebody else.
_FORWARDED: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})


class Answer(Enum):
    """What to do with a request for the page."""

    LET_IN = auto()
    #: Refuse, and say that a user and a password would help; without that a browser never asks for them.
    ASK = auto()
    REFUSE = auto()


async def admit(scope: Scope, auth: "Decide | Credentials | None") -> Answer:
    """Decide about a request.

    With ``auth`` everybody has to pass it, also clients on this machine: behind a reverse proxy they are the world.
    Without it only clients of this machine are let in, unless a proxy speaks for them, or the page was asked for by
    a foreign name (DNS rebinding).
    """
    if auth is None:
        return Answer.LET_IN if _is_local(scope) else Answer.REFUSE
    if isinstance(auth, tuple):
        return Answer.LET_IN if _has_credentials(scope, auth) else Answer.ASK
    decided = auth(scope)
    if inspect.isawaitable(decided):
        decided = await decided
    return Answer.LET_IN if decided is True else Answer.REFUSE


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if not client or not _is_loopback(client[0]):
        return False
    host = ""
    for name, value in scope.get("headers", ()):
        if name.lower() in _FORWARDED:
            return False
        if name.lower() == b"host":
            host = value.decode("latin-1")
    return _is_local_name(host)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _is_local_name(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() == "localhost" or name.lower().endswith(".localhost") or _is_loopback(name)


def _has_credentials(scope: Scope, expected: Credentials) -> bool:
    for name, value in scope.get("headers", ()):
        if name.lower() != b"authorization":
            continue
        scheme, _, encoded = value.partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        # In one piece and in constant time, so that nothing is learned from how long the comparison takes.
        return hmac.compare_digest(given, ":".join(expected).encode())
    return False
