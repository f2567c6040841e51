"""The fixture ``dbwatch``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dbwatch.facts import Finding
from dbwatch.pytest_plugin.limits import Limits
from dbwatch.pytest_plugin.tally import Holds, Tally, Use


class DBWatch:
    """What the test that asked for it does with the database. Asking for it has the test judged."""

    def __init__(self, holds: Holds, findings: Callable[[], tuple[Finding, ...]]) -> None:
        self._holds = holds
        self._findings = findings
        self._tally = Tally(holds)

    def use(self) -> Use:
        """What was done with the database since the fixture was made: statements, checkouts, connections, seconds."""
        return self._tally.use()

    def findings(self) -> tuple[Finding, ...]:
        """What has been found during this test so far, ignored findings included."""
        return self._findings()

    @contextmanager
    def limits(
        self,
        *,
        max_statements: int | None = None,
        max_checkouts: int | None = None,
        max_connections: int | None = None,
    ) -> Iterator[None]:
        """Fail the test if the block under ``with`` uses the database more than this.

        Raises:
            LimitError: a limit is no whole number from 0 up.
        """
        __tracebackhide__ = True
        limits = Limits.of(
            {"max_statements": max_statements, "max_checkouts": max_checkouts, "max_connections": max_connections}
        )
        tally = Tally(self._holds)
        yield
        complaint = limits.complaint(tally.use(), "this block")
        if complaint:
            pytest.fail(complaint)
