"""The template of a request's route, with router and mount prefixes: ``/v1/items/{item_id}``, never the raw path.

Every name used here is looked up by ``getattr``: a framework that names things differently yields ``(unmatched)``.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from dbwatch.guard import guarded
from dbwatch.records import UNMATCHED, Request, Site, writable

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WS"})


def method_label(scope_type: str, method: str) -> str:
    """The method as a label: ``WS`` for websockets, ``(other)`` for anything that is not an HTTP method."""
    if scope_type == "websocket":
        return "WS"
    return method if method in _METHODS else "(other)"


def route_of(request: Request) -> str:
    """The request's route as far as it is known now. It is stored by the middleware at the end of the request."""
    if request.route:
        return request.route
    scope = request.scope
    if scope is None:
        return UNMATCHED
    return writable(_template(request, scope) or UNMATCHED)


@guarded("routes.endpoint_site")
def endpoint_site(request: Request) -> Site:
    """Where the endpoint of a request begins, its decorators included; empty if that is not known.

    For what runs after the endpoint has returned: a response model that loads what is missing, row by row, has no line
    of the app in its stack.
    """
    endpoint = request.scope.get("endpoint") if request.scope is not None else None
    code = getattr(inspect.unwrap(endpoint), "__code__", None) if callable(endpoint) else None
    return () if code is None else ((code, code.co_firstlineno),)


def route_at_hand(request: Request) -> str:
    """The request's route if its scope tells, empty if only a search through all routes could."""
    scope = request.scope
    return "" if scope is None else writable(_template_at_hand(request, scope) or "")


@guarded("routes.template")
def _template(request: Request, scope: Any) -> str | None:
    at_hand = _in_scope(request, scope)
    if at_hand is not None:
        return at_hand
    # Starlette before 1.0 stores no route in the scope; a middleware may have handed on a copy of it; an app may have
    # set a root_path of its own.
    for path in _paths(request, scope):
        found = _search(_routes(request.app), path_within(path, request.root_path), request, scope)
        if found is not None:
            return found
    return _router_template(scope, scope.get("route"))


def _paths(request: Request, scope: Any) -> tuple[str, ...]:
    """The path that was asked for, and what a middleware has made of it, as one that takes a language off its front."""
    rewritten = scope.get("path", request.path)
    return (request.path,) if rewritten == request.path else (request.path, rewritten)


@guarded("routes.template_at_hand")
def _template_at_hand(request: Request, scope: Any) -> str | None:
    return _in_scope(request, scope)


def _in_scope(request: Request, scope: Any) -> str | None:
    """The whole template as far as the scope tells, None if it does not."""
    inner = _router_template(scope, scope.get("route"))
    if inner is None or scope.get("root_path", "") == request.root_path:
        return inner
    for path in _paths(request, scope):
        mounts = _mounts(request, scope, path)
        if mounts is not None:
            return "".join(getattr(mount, "path", "") for mount in mounts) + inner
    return None


def _router_template(scope: Any, route: Any) -> str | None:
    """The template within the innermost application.

    Since FastAPI 0.137 ``scope["route"].path`` lacks the prefixes of ``include_router``; the whole template is in
    FastAPI's own part of the scope.
    """
    extras = scope.get("fastapi")
    if extras is not None:
        context = extras.get("effective_route_context")
        path = getattr(context, "path", None)
        if isinstance(path, str) and getattr(context, "endpoint", None) is scope.get("endpoint"):
            return path
    # Only what has an endpoint is a route: Starlette 1.x also stores mounts and included routers there.
    if route is not None and hasattr(route, "endpoint"):
        path = getattr(route, "path", None)
        return path if isinstance(path, str) else None
    return None


def _mounts(request: Request, scope: Any, path: str) -> list[Any] | None:
    """The mounts passed through, from the entry app down, found by what they matched of the raw path; None if they
    cannot be told.

    ``root_path`` holds raw values (``/tenant/17``); the mounts' own paths hold the parameters (``/tenant/{id}``).
    """
    passed = scope.get("root_path", "")[len(request.root_path) :]
    return _chain(_routes(request.app), passed, path_within(path, request.root_path), scope)


def _chain(routes: Iterable[Any], passed: str, path: str, scope: Any) -> list[Any] | None:
    if not passed:
        return []
    for candidate in _flat(routes):
        matched = _taken_away(candidate, path, scope)
        if matched is None or not (passed == matched or passed.startswith(f"{matched}/")):
            continue
        rest = _chain(_routes(candidate), passed[len(matched) :], path[len(matched) :], scope)
        if rest is not None:
            return [candidate, *rest]
    return None


def _taken_away(candidate: Any, path: str, scope: Any) -> str | None:
    """The part of ``path`` that a mount or host takes away, perhaps empty; None if it does not match or is none."""
    if hasattr(candidate, "endpoint") or not hasattr(candidate, "app"):
        return None
    if hasattr(candidate, "host_regex"):
        return "" if candidate.matches(scope)[0].value else None
    regex = getattr(candidate, "path_regex", None)
    match = None if regex is None else regex.match(path)
    if match is None or "path" not in match.groupdict():
        return None
    return path[: len(path) - len(match.group("path"))].rstrip("/")


def _search(routes: Iterable[Any], path: str, request: Request, scope: Any) -> str | None:
    """The template of the first route that matches the path as a router would, and has the scope's endpoint if that
    is known; else of the first that would match with another method.
    """
    endpoint = scope.get("endpoint")
    other_method = None
    for candidate in _flat(routes):
        matched = _taken_away(candidate, path, scope)
        if matched is not None:
            inner = _search_below(candidate, path[len(matched) :], request, scope)
            if inner is not None:
                return f"{getattr(candidate, 'path', '')}{inner}"
            if endpoint is None:
                break  # a router does not come back from a mount
            continue
        target = getattr(candidate, "endpoint", None)
        if target is None or (endpoint is not None and target is not endpoint):
            continue
        regex, template = getattr(candidate, "path_regex", None), getattr(candidate, "path", None)
        if regex is None or not isinstance(template, str) or not regex.match(path):
            continue
        if _takes_method(candidate, request.method):
            return template
        if request.method != "WS":
            other_method = other_method or template
    return other_method


def _search_below(mount: Any, path: str, request: Request, scope: Any) -> str | None:
    routes = _routes(mount)
    if routes:
        return _search(routes, path, request, scope)
    # An app without routes of its own (static files) is a route itself.
    return "/{path}" if scope.get("endpoint", mount.app) is mount.app else None


def _takes_method(route: Any, method: str) -> bool:
    methods = getattr(route, "methods", None)
    if method == "WS":
        return not methods
    return method in methods if methods else hasattr(route, "methods")  # a websocket's route has no methods


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Routes, with FastAPI's included routers (since 0.137) replaced by their routes, prefixes applied."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
            continue
        for context in contexts():
            yield getattr(context, "starlette_route", None) or context


def _routes(app: Any) -> Iterable[Any]:
    """Routes of an application, also one wrapped in middleware that keeps it as ``app``."""
    for _ in range(20):
        routes = getattr(app, "routes", None)
        if routes:
            return list(routes)
        app = getattr(app, "app", None)
        if app is None:
            break
    return ()


def path_within(path: str, root: str) -> str:
    """The path without the server's own root_path, as Starlette's ``get_route_path`` computes it."""
    if root and path.startswith(root) and (len(path) == len(root) or path[len(root)] == "/"):
        return path[len(root) :]
    return path
