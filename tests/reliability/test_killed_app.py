"""The whole app is killed under load and started again; ``.ci/long killed`` does it more often."""

from pathlib import Path

from demo_app.postgres import EmbeddedPostgres
from tests.conftest import cannot_run
from tests.reliability.killed import try_out
from tests.servers.program import MissingProgramError


def test_killing_the_whole_app_under_load_loses_nothing_exported_and_leaves_nothing_to_the_next(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    try:
        outcomes = try_out(tmp_path, postgres, workers=(1, 2), kills=1)
    except MissingProgramError as error:
        cannot_run(error)
    for outcome in outcomes:
        assert (outcome.kills, outcome.lost, outcome.left) == (1, [], [])
        assert outcome.requests > 50
