"""What is noted of a request that takes a connection while it holds one: how many such requests the pool can bear."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import QueuePool, create_engine

from tests.core.made import a_request, working_for


@pytest.mark.parametrize(
    ("connections", "overflow", "safe"),
    [(2, 0, 3), (2, 1, 4), (2, 11, 14), (3, 0, 1), (3, 1, 2), (4, 0, 1), (4, 11, 4)],
)
def test_the_requests_that_cannot_all_be_stuck_at_once_are_counted(
    connections: int, overflow: int, safe: int, tmp_path: Path
) -> None:
    limit = 4 + overflow
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=QueuePool, pool_size=4, max_overflow=overflow)
    with ExitStack() as held, working_for(a_request()) as request:
        for _ in range(connections):
            held.enter_context(engine.connect())
    (proof,) = (request.evidence or {}).values()
    # T x (C - 1) + 1 <= limit
    assert proof.numbers == {"connections": connections, "limit": limit, "safe_requests": safe}
    assert safe * (connections - 1) + 1 <= limit < (safe + 1) * (connections - 1) + 1
    assert f"With a limit of {limit}, {safe + 1} such requests at once can wait" in proof.detail
    engine.dispose()
