"""Off until asked for, by option, setting, mark or fixture; limits, ignored findings, the baseline file."""

import re

import pytest

from tests.pytest_plugin.conftest import Run, reports

#: A leak, an app that takes three connections for five statements, and one that is correct.
SHOP = """
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import QueuePool, create_engine, text

engine = create_engine("sqlite:///shop.db", poolclass=QueuePool, connect_args={"check_same_thread": False})
app = FastAPI()
kept = []


@app.get("/leak")
def leak() -> str:
    connection = engine.connect()
    kept.append(connection)
    return str(connection.scalar(text("SELECT 'leaked'")))


@app.get("/many")
def many() -> None:
    for number in range(3):
        with engine.connect() as connection:
            connection.scalar(text(f"SELECT {number}"))
            connection.scalar(text(f"SELECT {number} + 1"))


def get(path: str) -> None:
    assert TestClient(app).get(path).is_success
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with an app and no tests yet."""
    pytester.makepyfile(shop=SHOP)
    return pytester


def test_off_it_loads_nothing_and_its_marks_are_known(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(
        """
        import sys

        def test_nothing_of_dbwatch_or_of_what_it_needs_is_loaded():
            loaded = {name.partition(".")[0] for name in sys.modules}
            assert not loaded & {"dbwatch", "sqlalchemy", "prometheus_client", "starlette"}
        """
    )
    # Without the other plugins of this environment, some of which load much.
    result = run("-p", "no:anyio", "-p", "no:hypothesispytest", "--strict-markers", "-q")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*dbwatch*")
    run("--markers").stdout.fnmatch_lines(["@pytest.mark.dbwatch(*", "@pytest.mark.dbwatch_ignore(*"])


def test_the_mark_and_the_fixture_ask_for_their_own_test_only(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(
        """
        import pytest
        from shop import get

        @pytest.mark.dbwatch
        def test_marked():
            get("/leak")

        def test_with_the_fixture(dbwatch):
            get("/leak")
            assert [finding.finding for finding in dbwatch.findings()] == ["leaked_connection"]
            use = dbwatch.use()
            assert (use.statements, use.checkouts) == (1, 1)

        def test_that_did_not_ask():
            get("/leak")
        """
    )
    result = run("--strict-markers")
    assert set(reports(result)) == {"test_marked", "test_with_the_fixture"}
    result.assert_outcomes(failed=2, passed=1)


def test_the_setting_asks_for_every_test_and_a_test_that_fails_by_itself_is_told_more(
    project: pytest.Pytester, run: Run
) -> None:
    project.makepyfile(
        """
        import pytest
        from shop import engine, get, kept

        @pytest.fixture
        def leaking_fixture():
            yield
            get("/leak")

        def test_wrong_anyway():
            get("/leak")
            assert 1 == 2

        def test_torn_down(leaking_fixture):
            pass

        def test_that_leaks_itself():
            only_the_garbage_collector_finds_it = [engine.connect()]
            only_the_garbage_collector_finds_it.append(only_the_garbage_collector_finds_it)

        def test_after_that():
            pass

        @pytest.mark.xfail(reason="known", strict=True)
        def test_expected_to_fail():
            get("/leak")

        def test_skipped():
            get("/leak")
            pytest.skip("no")
        """
    )
    result = run("-o", "dbwatch=true", "-W", "ignore")
    told = reports(result)
    assert set(told) == {"test_wrong_anyway", "test_torn_down", "test_that_leaks_itself", "test_skipped"}
    assert "assert 1 == 2" in told["test_wrong_anyway"]
    for text in told.values():
        assert "[leaked_connection]" in text
    assert "the garbage collector did" in told["test_that_leaks_itself"]
    # What is found only after the body fails the teardown.
    result.assert_outcomes(failed=1, errors=3, passed=3, xfailed=1, skipped=1)


def test_limits_of_the_mark_and_of_the_fixture_say_what_was_used_and_where(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(
        """
        import pytest
        from shop import engine, get

        @pytest.fixture
        def seeded():
            with engine.connect() as connection:
                for number in range(20):
                    connection.exec_driver_sql("SELECT 1")
                yield connection

        @pytest.mark.dbwatch(max_statements=6, max_checkouts=3, max_connections=2)
        class TestWithin:
            def test_what_fixtures_do_does_not_count(self, seeded):
                get("/many")

            @pytest.mark.dbwatch(max_statements=5)
            def test_one_statement_too_many(self, seeded):
                get("/many")

        @pytest.mark.dbwatch(max_checkouts=2, max_connections=0)
        def test_too_many_connections():
            get("/many")

        def test_a_block(dbwatch):
            get("/many")
            with dbwatch.limits(max_statements=6):
                get("/many")
            with dbwatch.limits(max_statements=0):
                pass
            with dbwatch.limits(max_statements=1):
                get("/many")
        """
    )
    result = run()
    told = reports(result)
    assert set(told) == {"TestWithin.test_one_statement_too_many", "test_too_many_connections", "test_a_block"}
    said = told["TestWithin.test_one_statement_too_many"]
    assert "Too many statements run in this test: 6, allowed 5 [max_statements]." in said
    assert re.search(r"    6 in GET /many shop\.py:\d+ many", said)
    said = told["test_too_many_connections"]
    assert "Too many connections taken in this test: 3, allowed 2 [max_checkouts]." in said
    assert "Too many connections out at once in this test: 1, allowed 0 [max_connections]." in said
    assert "Too many statements run in this block: 6, allowed 1 [max_statements]." in told["test_a_block"]


def test_what_is_ignored_for_a_reason_fails_no_test(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(
        test_shop="""
        import pytest
        from shop import get

        @pytest.mark.dbwatch_ignore("leaked_connection", reason="this test is about leaks")
        def test_marked():
            get("/leak")

        @pytest.mark.dbwatch_ignore("lost_write", reason="something else")
        def test_with_a_rule():
            get("/leak")

        def test_without_one():
            get("/leak")
        """
    )
    rules = "lost_write because it is something else\n* at shop.py in test_shop.py::test_with_a_rule because it is old"
    result = run("--dbwatch", "-o", f"dbwatch_ignore={rules}")
    assert set(reports(result)) == {"test_without_one"}
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "Not failed: leaked_connection, 1 times, because it is old",
            "Not failed: leaked_connection, 1 times, because this test is about leaks",
        ]
    )


def test_an_existing_project_writes_down_what_is_found_and_fails_for_nothing_but_what_is_new(
    project: pytest.Pytester, run: Run
) -> None:
    project.makepyfile(test_shop="from shop import get\n\ndef test_old():\n    get('/leak')\n")
    result = run("--dbwatch-write-baseline", "-n", "1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["Wrote *dbwatch-baseline.txt with 1 entry."])
    lines = (project.path / "dbwatch-baseline.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["leaked_connection shop.py leak"]

    # The line moves, and another function makes the same mistake.
    project.makepyfile(shop=f"import os\n{SHOP}\n\n@app.get('/new')\ndef new() -> None:\n    engine.connect()\n")
    project.makepyfile(
        test_shop="from shop import get\n\ndef test_old():\n    get('/leak')\n\ndef test_new():\n    get('/new')\n"
    )
    result = run("--dbwatch", "-W", "ignore")
    assert set(reports(result)) == {"test_new"}
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["Not failed: leaked_connection, 1 times, because the baseline file knows it"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "dbwatch_ignore=lost_write"), "*dbwatch_ignore has the line 'lost_write'; allowed is: FINDING *"),
        (("-o", "dbwatch_baseline=no.txt"), "*cannot read *no.txt (No such file or directory). Write it with *"),
        ((), "*::test_it: there is no limit 'max_queries'; the limits are max_statements, *"),
    ],
)
def test_what_is_wrong_ends_the_run_with_a_sentence(
    arguments: tuple[str, ...], message: str, project: pytest.Pytester, run: Run
) -> None:
    project.makepyfile("import pytest\n\n@pytest.mark.dbwatch(max_queries=1)\ndef test_it():\n    pass\n")
    result = run("--dbwatch", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("dbwatch(5)", "*::test_it: @pytest.mark.dbwatch takes keywords only, not 5.*"),
        ("dbwatch_ignore('lost_write')", '*::test_it: @pytest.mark.dbwatch_ignore needs a reason="..." and takes no *'),
        ("dbwatch_ignore(reason='it is', pool='primary')", "*::test_it: @pytest.mark.dbwatch_ignore needs a reason=*"),
        ("dbwatch_ignore('lost_rite', reason='it is')", "*::test_it: *lost_rite*"),
    ],
)
def test_a_mark_that_is_wrong_ends_the_run_with_a_sentence(
    mark: str, message: str, project: pytest.Pytester, run: Run
) -> None:
    project.makepyfile(f"import pytest\n\n@pytest.mark.{mark}\ndef test_it():\n    pass\n")
    result = run("--dbwatch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_baseline_that_cannot_be_written_is_said_at_the_end(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile("def test_it():\n    pass\n")
    result = run("--dbwatch-write-baseline", "-o", "dbwatch_baseline=no/such/directory/known.txt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no/such/directory/known.txt*"])


def test_asked_for_and_switched_off_in_the_environment_is_refused(
    project: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile("def test_nothing():\n    pass\n")
    monkeypatch.setenv("DBWATCH_ENABLED", "0")
    result = run("--dbwatch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*DBWATCH_ENABLED*"])
    run().assert_outcomes(passed=1)


def test_what_comes_to_light_after_its_test_fails_the_run_and_no_other_test(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(
        """
        import asyncio
        import pytest
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine
        from fastapi import FastAPI
        from fastapi.testclient import TestClient

        engine = create_async_engine("sqlite+aiosqlite:///shop.db")
        app = FastAPI()
        kept = []
        go_on = []

        async def leak_later():
            connection = await engine.connect()
            kept.append(connection)
            while not go_on:
                await asyncio.sleep(0.01)

        @app.get("/spawn")
        async def spawn() -> None:
            kept.append(asyncio.create_task(leak_later()))
            while len(kept) < 2:
                await asyncio.sleep(0.01)

        @pytest.fixture(scope="module")
        def client():
            with TestClient(app) as client:
                yield client

        def test_that_spawns(client):
            assert client.get("/spawn").is_success

        def test_that_is_innocent(client):
            go_on.append(True)
            while not kept[0].done():
                pass
        """
    )
    result = run("--dbwatch", "-W", "ignore")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["Found when *::test_that_spawns had ended:", "*[[]leaked_connection] in GET /spawn*"])
