"""Findings by themselves: kept so long, told to whoever listens, and counted with or without a request."""

from dbwatch.facts import Finding
from dbwatch.findings import KEPT, Findings
from dbwatch.ledger import Ledger
from dbwatch.records import Checkout, Request
from tests.core.made import a_pool, a_request

NOWHERE = ()


def report(findings: Findings, request: Request | None = None, message: str = "") -> Finding:
    return findings.report("slow_checkout", "shop", request, NOWHERE, message=message, numbers={})


def a_checkout() -> Checkout:
    return Checkout(a_pool(), None, 0.0)


def test_a_finding_of_no_request_has_number_zero_and_one_of_a_request_has_its_number() -> None:
    findings, request = Findings(Ledger()), a_request()
    assert report(findings).request == 0
    assert report(findings, request).request == request.number > 0


def test_the_last_findings_are_kept_oldest_first() -> None:
    findings = Findings(Ledger())
    for number in range(KEPT + 3):
        report(findings, message=str(number))
    assert [finding.message for finding in findings.recent()] == [str(number) for number in range(3, KEPT + 3)]
    findings.clear()
    assert findings.recent() == ()


def test_a_listener_hears_of_each_finding_once_until_it_stops_listening() -> None:
    ledger, heard = Ledger(), list[Finding]()
    findings = Findings(ledger)
    findings.subscribe(heard.append)
    findings.subscribe(heard.append)
    first = report(findings)
    ledger.fold()
    assert heard == [first]
    findings.unsubscribe(heard.append)
    findings.unsubscribe(heard.append)
    report(findings)
    ledger.fold()
    assert heard == [first]


def test_a_witness_hears_of_a_finding_with_its_request_before_the_fold_is_over() -> None:
    findings, request = Findings(Ledger()), a_request()
    heard = list[tuple[Finding, Request | None]]()
    findings.witnesses = (lambda finding, of: heard.append((finding, of)),)
    assert [(report(findings, request), request), (report(findings), None)] == heard


def test_a_leak_whose_connection_comes_back_is_among_the_returned_and_no_other() -> None:
    findings = Findings(Ledger())
    one, other = a_checkout(), a_checkout()
    leak = report(findings, message="one")
    findings.still_out(one, leak)
    findings.still_out(other, report(findings, message="other"))
    findings.came_back(one)
    findings.came_back(one)
    findings.came_back(a_checkout())
    assert findings.returned() == (leak,)
    findings.clear()
    findings.came_back(other)
    assert findings.returned() == ()


def test_of_leaks_that_stay_out_the_oldest_are_forgotten() -> None:
    findings = Findings(Ledger())
    checkouts = [a_checkout() for _ in range(KEPT + 1)]
    for number, checkout in enumerate(checkouts):
        findings.still_out(checkout, report(findings, message=str(number)))
    findings.came_back(checkouts[0])
    assert findings.returned() == ()
    findings.came_back(checkouts[1])
    findings.came_back(checkouts[-1])
    assert [leak.message for leak in findings.returned()] == ["1", str(KEPT)]
