"""The guide's own little server, in a thread of the demo: it answers also when the app is stuck, which is the point."""

import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from demo_app.guide.act import Act
from demo_app.guide.page import render
from demo_app.scenarios import SCENARIOS

_HOST = "127.0.0.1"


class Guide:
    """Shows what is on and notes what is wanted next. On loopback only.

    ``refusals`` says by the name of a scenario why it cannot be shown.
    """

    def __init__(self, port: int, shop: str, refusals: dict[str, str]) -> None:
        self.url = f"http://{_HOST}:{port}"
        self._shop = shop
        self._refusals = refusals
        self._act = Act()
        self._starting = True
        self._wanted: Act | None = None
        config = uvicorn.Config(self._app(), host=_HOST, port=port, log_level="error", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="guide", daemon=True)

    def wanted(self) -> Act | None:
        """What somebody has picked since the last call."""
        wanted, self._wanted = self._wanted, None
        return wanted

    def starting(self, act: Act) -> None:
        """Say that this act is being started."""
        self._act, self._starting = act, True

    def playing(self, act: Act) -> None:
        """Say that this act is on."""
        self._act, self._starting = act, False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10.0)

    def _serve(self) -> None:
        with suppress(SystemExit):  # So uvicorn ends if the port has been taken meanwhile.
            self._server.run()

    def _app(self) -> FastAPI:
        app = FastAPI(title="dbwatch demo guide", docs_url=None, redoc_url=None)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"])

        @app.get("/", response_class=HTMLResponse)
        async def page() -> str:
            return render(
                self._act,
                starting=self._starting,
                refusals=self._refusals,
                scenarios=SCENARIOS.values(),
                shop=self._shop,
            )

        @app.post("/show")
        async def show(request: Request, scenario: str = "", variant: str = "broken") -> RedirectResponse:
            origin = request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
                raise HTTPException(403, "Only the guide's own page may switch.")
            act = self._find(scenario, variant)
            self._wanted = act
            self.starting(act)
            return RedirectResponse("/", 303)

        return app

    def _find(self, name: str, variant_name: str) -> Act:
        if not name:
            return Act()
        if name in self._refusals:
            raise HTTPException(409, self._refusals[name])
        scenario = SCENARIOS.get(name)
        if scenario is None:
            raise HTTPException(404, f"There is no scenario {name!r}; known are {', '.join(SCENARIOS)}.")
        try:
            return Act(scenario, scenario.variant(variant_name))
        except KeyError:
            known = ", ".join(variant.name for variant in scenario.variants)
            raise HTTPException(404, f"{name} has no variant {variant_name!r}; it has {known}.") from None
