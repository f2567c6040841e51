"""What goes wrong while facts are added up, or while something is reported, costs that one fact and nothing else."""

from typing import NoReturn

from dbwatch import guard
from dbwatch.ledger import Ledger


def fails(_subject: object) -> NoReturn:
    raise LookupError


def errors_at(ledger: Ledger, site: str) -> float:
    return ledger.accumulators.counter("dbwatch_internal_errors_total", site).value


def test_a_fact_that_cannot_be_added_up_is_counted_as_an_error_and_those_behind_it_are_added_up() -> None:
    guard.drain()
    ledger, added = Ledger(), list[str]()
    ledger.post(added.append, "before")
    ledger.post(fails, None)
    ledger.post(added.append, "behind")
    ledger.fold()
    assert added == ["before", "behind"]
    assert errors_at(ledger, "ledger.fold") == 1


def test_a_report_that_fails_is_counted_as_an_error_and_those_behind_it_are_made() -> None:
    guard.drain()
    ledger, made = Ledger(), list[str]()
    ledger.after_fold(fails, None)
    ledger.after_fold(made.append, "behind")
    ledger.fold()
    assert made == ["behind"]
    ledger.fold()  # an error of a report comes with the next
    assert errors_at(ledger, "ledger.report") == 1
