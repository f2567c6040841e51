"""What a request may cost in bytecodes of dbwatch's own: exact, the same on every machine, and no matter of seconds.

A change that makes the hot path longer fails here and has to be worth it. The figures are for one version of Python,
since each compiles differently; what they stand at is printed by ``python -m benchmarks bytecodes --functions 100``.
"""

import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from benchmarks.bytecodes import per_request
from benchmarks.workloads import WORKLOADS, fill

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the budgets are of Python 3.11")

#: Bytecodes of a request that touches no pool.
NO_DATABASE = 565
#: Of a request with a session, a checkout and a statement, the folding of its facts included.
ONE_STATEMENT = 2745
#: Of each further statement.
FURTHER_STATEMENT = 210


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cost") / "bench.db"
    fill(f"sqlite+pysqlite:///{path}")
    return make_url(f"sqlite+aiosqlite:///{path}").render_as_string()


def own_bytecodes(workload: str, database: str) -> float:
    """Bytecodes of dbwatch's code in one request of a workload of the benchmarks."""
    functions = per_request("dbwatch_on", WORKLOADS[workload], database)
    return sum(number for name, number, _ in functions if name.startswith((f"dbwatch{Path('/')}", "<dbwatch guard>")))


def test_a_request_without_database_keeps_to_its_budget(database: str) -> None:
    assert 0 < own_bytecodes("plain", database) <= NO_DATABASE


def test_a_request_with_a_statement_and_each_further_one_keep_to_their_budgets(database: str) -> None:
    one, ten = own_bytecodes("inline-1", database), own_bytecodes("inline-10", database)
    assert NO_DATABASE < one <= ONE_STATEMENT
    assert 0 < (ten - one) / 9 <= FURTHER_STATEMENT
