"""What a scrape says, read with prometheus_client's own parsers."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from tests.app.calls import App, call

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Scrape:
    """The families and samples of one page. Parsing fails on a page that breaks its format."""

    def __init__(self, page: str, *, openmetrics: bool = False) -> None:
        parse: Callable[[str], Iterable[Metric]] = parse_openmetrics if openmetrics else parse_text
        self.families = {family.name: family for family in parse(page)}

    def samples(self, name: str, **labels: str) -> Iterator[Sample]:
        """The samples of one name that carry these labels, whatever others they carry."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    yield sample

    def sum(self, name: str, **labels: str) -> float:
        """The sum over those samples, 0 if there are none."""
        return sum(sample.value for sample in self.samples(name, **labels))

    def value(self, name: str, **labels: str) -> float:
        """The value of the one sample that carries these labels."""
        [sample] = self.samples(name, **labels)
        return sample.value

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample that may only grow, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            if family.type in {"counter", "histogram"}
            for sample in family.samples
        }

    def routes(self) -> dict[tuple[str, str], float]:
        """Checkouts counted, by method and route."""
        return {
            (sample.labels["method"], sample.labels["route"]): sample.value
            for sample in self.samples("dbwatch_request_checkouts_total")
        }


async def scrape(app: App) -> Scrape:
    """The app's metrics now."""
    answer = await call(app, "/metrics")
    assert answer.status == 200, answer
    return Scrape(answer.text)


def counted() -> Scrape:
    """The metrics of this process now, from prometheus_client's default registry."""
    return Scrape(generate_latest().decode())
