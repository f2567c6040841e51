"""What a scenario is: one endpoint, written wrong and written right, and the load under which that shows."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from fastapi import APIRouter
from sqlalchemy.orm import Session

#: Ends the line of a broken variant that dbwatch names.
MARK = "# dbwatch names this line"

FigureName = Literal["p50", "errors", "bystander", "lost", "opened"]


@dataclass(frozen=True, slots=True)
class Load:
    """The traffic of a scenario; its paths are asked for in turn.

    With ``users`` each of so many clients sends the next request when it has the answer to the last (closed loop). With
    ``rate`` so many requests arrive a second, whatever became of those before (open loop).
    """

    paths: tuple[str, ...]
    method: str = "GET"
    users: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        return f"{self.users} users" if self.rate is None else f"{self.rate:g} requests/s"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to write the endpoint. ``settings`` are environment variables of the app, such as POOL_SIZE."""

    name: str
    label: str
    router: APIRouter
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A mistake and its correction.

    ``figure`` is what the mistake makes worse. ``findings`` are those that prove the mistake, of which one is enough,
    at the line that ends in MARK; ``advice`` is the setting that the live page remarks on where the mistake is no
    finding. ``claim`` is what articles say, and ``setup`` makes the tables that only this scenario needs.
    """

    name: str
    mistake: str
    look_at: str
    load: Load
    figure: FigureName
    variants: tuple[Variant, ...]
    findings: frozenset[str] = frozenset()
    advice: str = ""
    claim: str = ""
    #: The database is stopped and started in the middle of the traffic.
    restarts: bool = False
    #: The variants run one after the other, so that the figures of a pool hold nothing but this load.
    apart: bool = False
    setup: Callable[[Session], None] | None = None

    @property
    def module(self) -> ModuleType:
        """The module that the scenario is written in."""
        endpoint: Any = self.variants[0].router.routes[0]
        return sys.modules[endpoint.endpoint.__module__]

    @property
    def description(self) -> str:
        """What goes wrong, in a sentence."""
        return str(self.module.__doc__).strip()

    @property
    def file(self) -> str:
        """Where the code is, from the working directory if it lies in it: as dbwatch writes it."""
        path, here = Path(str(self.module.__file__)), Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    @property
    def source(self) -> str:
        """The code."""
        return Path(str(self.module.__file__)).read_text(encoding="utf-8")

    @property
    def marked(self) -> set[str]:
        """``file:line`` of the lines that dbwatch must name."""
        lines = self.source.splitlines()
        return {f"{self.file}:{number}" for number, line in enumerate(lines, 1) if line.endswith(MARK)}

    @property
    def broken(self) -> Variant:
        """The variant with the mistake, which is the first."""
        return self.variants[0]

    @property
    def fixed(self) -> Variant:
        """The corrected variant, which is the last."""
        return self.variants[-1]

    def variant(self, name: str) -> Variant:
        """The variant of this name. Raises KeyError if there is none."""
        return {variant.name: variant for variant in self.variants}[name]


def pair(
    router_broken: APIRouter,
    router_fixed: APIRouter,
    *,
    broken: str,
    fixed: str,
    broken_settings: Mapping[str, str] | None = None,
    fixed_settings: Mapping[str, str] | None = None,
) -> tuple[Variant, Variant]:
    """The usual two variants, each with a few words on how it does it."""
    return (
        Variant("broken", broken, router_broken, broken_settings or {}),
        Variant("fixed", fixed, router_fixed, fixed_settings or {}),
    )
