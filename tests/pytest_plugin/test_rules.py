import re
from pathlib import Path

import pytest

from dbwatch.facts import Finding
from dbwatch.pytest_plugin.excuses import ExcuseError, Rule, entry, read_baseline, write_baseline
from dbwatch.pytest_plugin.limits import LimitError, Limits
from dbwatch.pytest_plugin.results import Results, Row

LEAK = Finding(
    finding="leaked_connection",
    at=0.0,
    pool="primary",
    method="GET",
    route="/orders/{number}",
    request=1,
    lines=("shop/orders.py:41 read_order", "shop/api.py:7 serve"),
    message="",
)
NOWHERE = Finding("checkout_timeout", 0.0, "primary", "GET", "/orders", 2, (), "")


@pytest.mark.parametrize(
    "rule",
    [
        "leaked_connection because it is known",
        "* because all of it is old",
        "leaked_connection at shop/orders.py because it is known",
        "* at shop/* in tests/test_shop.py because it is old",
        "* in tests because it is old",
        "* in tests/test_shop.py::test_one because it is old",
        "* in tests/test_shop.py::test_one[a b] because it is old",
        "* in *::test_o*  because  because is a word as well",
    ],
)
def test_a_rule_covers_the_finding_at_its_file_in_its_test(rule: str) -> None:
    assert Rule.read(rule).covers(LEAK, "tests/test_shop.py::test_one[a b]")


@pytest.mark.parametrize(
    "rule",
    [
        "lost_write because it is known",
        "* at shop/api.py because the leak is further in",
        "* in tests/test_shop because it is no file",
        "* in tests/test_shop.py::test_on because it is another test",
    ],
)
def test_a_rule_does_not_cover_what_it_does_not_name(rule: str) -> None:
    assert not Rule.read(rule).covers(LEAK, "tests/test_shop.py::test_one[a b]")


@pytest.mark.parametrize("rule", ["", "lost_write", "lost_write because", "lost_write at because x", "a b c because x"])
def test_a_rule_without_a_reason_or_of_another_form_is_refused_with_the_line_and_what_is_allowed(rule: str) -> None:
    with pytest.raises(ExcuseError, match=re.escape(f"has the line {rule!r}; allowed is: FINDING [at FILE]")):
        Rule.read(rule)


def test_a_rule_for_a_finding_that_does_not_exist_is_refused_with_all_names() -> None:
    with pytest.raises(ExcuseError, match="there is no finding 'lost'; the findings are leaked_connection, "):
        Rule.read("lost because it is")


@pytest.mark.parametrize("given", [{"max_statements": -1}, {"max_checkouts": "5"}, {"max_connections": True}])
def test_a_limit_that_is_no_number_is_refused_with_its_value(given: dict[str, object]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(LimitError, match=f"{name} is {value!r}; allowed is a whole number from 0 up"):
        Limits.of(given)


def test_the_baseline_names_the_function_or_else_the_route_and_no_line(tmp_path: Path) -> None:
    assert entry(LEAK) == "leaked_connection shop/orders.py read_order"
    assert entry(NOWHERE) == "checkout_timeout GET /orders"
    file = tmp_path / "baseline.txt"
    write_baseline(file, [entry(NOWHERE), entry(LEAK), entry(LEAK)])
    assert read_baseline(file) == {entry(LEAK), entry(NOWHERE)}


def test_a_baseline_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExcuseError, match=r"cannot write .*nowhere"):
        write_baseline(tmp_path / "nowhere" / "baseline.txt", [])


def test_results_of_several_workers_add_up() -> None:
    one, other, both = Results(), Results(), Results()
    one.add(Row("test_a", 3, 1, 1, 0.5, 0))
    one.add(Row("test_without_a_database", 0, 0, 0, 0.0, 0))
    other.add(Row("test_b", 2, 1, 1, 0.5, 1))
    other.late.append(("test_b", "a leak"))
    for results in (one, other):
        results.passed_over[("idle_hold", "of a reason")] += 2
        both.take(results.give())
    assert list(both.summary()) == [
        "2 tests used the database:",
        "statements  checkouts  connections  held (s)  findings  test",
        "         2          1            1     0.500         1  test_b",
        "         3          1            1     0.500         0  test_a",
        "Not failed: idle_hold, 4 times, because of a reason",
        "Found when test_b had ended:",
        "a leak",
    ]
    assert list(Results().summary()) == ["No test used the database."]
