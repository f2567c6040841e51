"""The fault matrix, one fault of each sort; ``.ci/long faults`` injects all of them many times."""

from collections.abc import Iterator

import pytest

from tests.conftest import cannot_run
from tests.reliability.faults import FAULTS, Fault
from tests.reliability.stage import Stage, stage
from tests.reliability.trial import try_out
from tests.servers.program import MissingProgramError

_SHORT = {
    "postgres": (
        "connections refused",
        "server killed (SIGKILL) and restarted",
        "every session ended by the administrator",
        "statement cancelled by the administrator",
        "connection reset in mid-statement",
        "answer cut off",
        "network hangs, pool runs dry",
        "disk full",
    ),
    "mariadb": ("server killed in mid-statement", "too many clients"),
    "bouncer": ("restarted",),
    "lost": ("host name not found",),
}


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    try:
        with stage(tmp_path_factory.mktemp("faults")) as found:
            yield found
    except MissingProgramError as error:
        cannot_run(error)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in _SHORT[fault.kind]], ids=str)
def test_a_fault_is_answered_as_without_dbwatch_loses_no_slot_and_moves_what_it_should(
    apps: Stage, fault: Fault
) -> None:
    trial = try_out(apps, fault)
    assert trial.sent > 0
    assert trial.differences == []
    assert trial.slots_lost == 0
    assert trial.violations == []
