"""The template of a request's route, with router and mount prefixes: ``/v1/items/{item_id}``, never the raw path.

Every name used here is looked up by ``getattr``: a framework that names things differently yields ``(unmatched)``.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from dbwatch.records import UNMATCHED, Request

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
    return _template(request, scope) or UNMATCHED


def _template(request: Request, scope: Any) -> str:
    route = scope.get("route")
    inner = _router_template(scope, route)
    if inner is None and "endpoint" in scope and not hasattr(route, "endpoint"):
        # Mounted, and no route inside: an app without routes of its own (static files) is a route itself.
        mounts = list(_mounts(request, scope))
        if mounts and scope["endpoint"] is getattr(mounts[-1], "app", None) and not _routes(mounts[-1]):
            return "".join(mount.path for mount in mounts) + "/{path}"
    if inner is None:
        return _search(request, scope)
    if scope.get("root_path", "") == request.root_path:
        return inner
    return "".join(mount.path for mount in _mounts(request, scope)) + inner


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


def _mounts(request: Request, scope: Any) -> Iterator[Any]:
    """The mounts passed through, from the entry app down, found by what they matched of the raw path.

    ``root_path`` holds raw values (``/tenant/17``); the mounts' own paths hold the parameters (``/tenant/{id}``).
    """
    passed = scope.get("root_path", "")[len(request.root_path) :]
    remaining = _path_within(request)
    routes = _routes(request.app)
    while passed:
        for candidate in _flat(routes):
            matched = _mount_match(candidate, remaining)
            if matched and (passed == matched or passed.startswith(matched + "/")):
                yield candidate
                passed, remaining = passed[len(matched) :], remaining[len(matched) :]
                routes = _routes(candidate)
                break
        else:
            return


def _mount_match(candidate: Any, path: str) -> str:
    """The part of ``path`` that a mount takes away, empty if it does not match or is no mount."""
    if hasattr(candidate, "endpoint") or not hasattr(candidate, "app") or not hasattr(candidate, "path"):
        return ""
    match = candidate.path_regex.match(path)
    if match is None or "path" not in match.groupdict():
        return ""
    return path[: len(path) - len(match.group("path"))].rstrip("/")


def _search(request: Request, scope: Any) -> str:
    """Find the route by matching the path, for Starlette before 1.0, which stores no route in the scope, and for apps
    behind a middleware that hands on a copy of the scope.
    """
    return _search_routes(_routes(request.app), _path_within(request), request.method, scope.get("endpoint")) or ""


def _search_routes(routes: Iterable[Any], path: str, method: str, endpoint: Any) -> str | None:
    for candidate in _flat(routes):
        matched = _mount_match(candidate, path)
        if matched:
            inner = _search_routes(_routes(candidate), path[len(matched) :], method, endpoint)
            if inner is not None:
                return f"{candidate.path}{inner}"
            continue
        target = getattr(candidate, "endpoint", None)
        if target is None or (endpoint is not None and target is not endpoint):
            continue
        methods = getattr(candidate, "methods", None)
        if (methods is None) != (method == "WS") and methods is not None and method not in methods:
            continue
        regex = getattr(candidate, "path_regex", None)
        template = getattr(candidate, "path", None)
        if regex is not None and isinstance(template, str) and regex.match(path):
            return template
    return None


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


def _path_within(request: Request) -> str:
    """The path without the server's own root_path, as Starlette's ``get_route_path`` computes it."""
    path, root = request.path, request.root_path
    if root and path.startswith(root) and (len(path) == len(root) or path[len(root)] == "/"):
        return path[len(root) :]
    return path
