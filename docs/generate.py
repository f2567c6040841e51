"""The reference pages, from what the package itself goes by: ``python docs/generate.py --out docs``.

Metrics and findings come from the catalogue, options from the settings, alerts from the rules. What is committed is
compared with what this writes (``.ci/check-generated``).
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

from dbwatch.catalog import FINDINGS, METRICS, FindingKind, Metric
from dbwatch.outputs.grafana.recording import recordings
from dbwatch.outputs.grafana.rules import alerts
from dbwatch.outputs.grafana.thresholds import RuleOptions
from dbwatch.settings import OPTIONS, Settings

GENERATED = "<!-- Written by docs/generate.py; change what it reads instead. -->"

#: The groups of metrics in reading order: heading, an introduction, and which metrics belong there.
GROUPS: tuple[tuple[str, str, Callable[[Metric], bool]], ...] = (
    (
        "Pools now",
        "The state of each pool at the moment of the scrape.",
        lambda metric: "pool" in metric.labels and "route" not in metric.labels and metric.kind == "gauge",
    ),
    (
        "Pools over time",
        (
            "What has happened in each pool since the process started: ask for `rate()` or `increase()`. Where the "
            "labels have a fixed set of values, the series exist at 0 from the moment a pool is first seen, so the "
            "first event is not missed."
        ),
        lambda metric: "pool" in metric.labels and "route" not in metric.labels and metric.kind != "gauge",
    ),
    (
        "Requests and routes",
        (
            "Which requests use the pools; those that tried no checkout do not count. `route` is the template with the "
            "prefixes of routers and mounts; `(unmatched)` without one, `(none)` outside a request."
        ),
        lambda metric: "route" in metric.labels,
    ),
    (
        "dbwatch itself",
        "Whether what is shown can be trusted.",
        lambda metric: not {"pool", "route"} & set(metric.labels),
    ),
)

METRICS_HEAD = """\
# Metrics

Every metric of dbwatch, from the catalogue that the code itself goes by. All times are seconds. `/metrics` serves them
in Prometheus text format, or in OpenMetrics with exemplars where the scraper asks for it.

Every label is bounded: at most 20 names of pools and 200 pairs of method and route. What comes later is counted as
`(other)`, and in [`dbwatch_label_overflow_total`](#dbwatch_label_overflow_total). `pool` is the name given with
`dbwatch.watch(engine, name=…)`, else `pool_logging_name`, else `driver://host:port/database` without user and password.
With [several workers](production.md#several-workers) each metric says how theirs are put together.

When to worry is what the alerts say: each metric names those that ask for it."""

FINDINGS_HEAD = """\
# Findings

A finding is one mistake, proven at run time: never a guess, and never about code that merely looks wrong. It goes to
the log of the app (logger `dbwatch`, level WARNING), to the [live page](live-page.md), to
[`dbwatch_findings_total`](metrics.md#dbwatch_findings_total) and so to
[the alert DBPoolFinding](runbooks/DBPoolFinding.md). `dbwatch.findings()` returns the last 500, and
`dbwatch explain NAME` says on the command line what stands here.

A finding names route, pool and the lines of your own code, innermost first. It says what it means for the app, and
what to change."""

OPTIONS_HEAD = """\
# Options

Keywords of the middleware. Each that can be written as text is an environment variable as well; a keyword wins over the
environment, which wins over the default. A wrong option is refused when the app starts, with its name, the value and
what is allowed.

```python
from fastapi import FastAPI
from dbwatch import DBWatchMiddleware

app = FastAPI()
app.add_middleware(DBWatchMiddleware, idle_hold_seconds=0.2, exclude=["/health", "/static/*"])
```"""


def alerts_by_metric() -> dict[str, list[str]]:
    """The names of the alerts that ask for each metric, by themselves or through recorded expressions."""
    options = RuleOptions()
    recorded = {recording.name: recording.expr for recording in recordings(options)}
    asking: dict[str, list[str]] = {name: [] for name in METRICS}
    for alert in alerts(options):
        expression = " ".join([alert.expr, *(expr for name, expr in recorded.items() if name in alert.expr)])
        for name in METRICS:
            if re.search(rf"\b{name}(_bucket|_count|_sum)?\b", expression):
                asking[name].append(alert.name)
    return asking


def metrics_page() -> str:
    """The reference of the metrics."""
    asking = alerts_by_metric()
    parts = [GENERATED, METRICS_HEAD]
    for heading, introduction, belongs in GROUPS:
        parts += [f"## {heading}", introduction]
        for metric in filter(belongs, METRICS.values()):
            parts += [f"### {metric.name}", *metric_entry(metric, asking[metric.name])]
    return "\n\n".join(parts) + "\n"


def metric_entry(metric: Metric, asking: list[str]) -> Iterator[str]:
    """What is said about one metric."""
    kind = metric.kind.capitalize() + (f" of {metric.unit}" if metric.unit else "")
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    yield f"{kind}. {metric.help}"
    facts = [f"Labels: {labels}"]
    if metric.values:
        facts.append(f"Values of `{metric.labels[-1]}`: {', '.join(f'`{value}`' for value in metric.values)}")
    if metric.buckets:
        facts.append(f"Buckets up to, in seconds: {', '.join(f'{bound:g}' for bound in metric.buckets)}")
    facts.append(f"Several workers: {'the sum' if metric.aggregation == 'sum' else 'the largest'}")
    if metric.otel:
        facts.append(f"In OpenTelemetry: `{metric.otel}`")
    if asking:
        facts.append(f"Alerts: {', '.join(f'[{name}](runbooks/{name}.md)' for name in asking)}")
    yield "\n".join(f"- {fact}" for fact in facts)


def findings_page() -> str:
    """The reference of the findings."""
    table = ["| finding | the mistake |", "|---|---|"]
    table += [f"| [`{kind.name}`](#{kind.name}) | {kind.title} |" for kind in FINDINGS.values()]
    parts = [GENERATED, FINDINGS_HEAD, "\n".join(table)]
    for kind in FINDINGS.values():
        parts += [f"## {kind.name}", *finding_entry(kind)]
    parts.append("```{toctree}\n:hidden:\n:glob:\n\nfindings/*\n```")
    return "\n\n".join(parts) + "\n"


def finding_entry(kind: FindingKind) -> Iterator[str]:
    """What is said about one finding."""
    yield f"{kind.title}. {kind.cause}"
    yield f"**What to change.** {kind.fix}"
    yield f"**Reported when.** {kind.proof}"
    yield f"[Symptom, faulty code, corrected code, and what it cannot see](findings/{kind.name}.md)"


def option_meanings() -> dict[str, str]:
    """What each option means, from the docstring of the settings."""
    text = inspect.cleandoc(Settings.__doc__ or "")
    listed = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(\w+): ", listed, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(meaning.split()).replace("``", "`")
        for name, meaning in zip(entries[::2], entries[1::2], strict=True)
    }


def options_page() -> str:
    """The reference of the options."""
    meanings = option_meanings()
    parts = [GENERATED, OPTIONS_HEAD]
    for option in fields(Settings):
        rule = OPTIONS[option.name]
        facts = [f"Default: `{option.default!r}`", f"Allowed: {rule.allowed}"]
        facts.append(f"Environment: `DBWATCH_{option.name.upper()}`" if rule.parse else "Environment: none")
        parts += [f"## {option.name}", meanings[option.name], "\n".join(f"- {fact}" for fact in facts)]
    return "\n\n".join(parts) + "\n"


PAGES = {"metrics.md": metrics_page, "findings.md": findings_page, "options.md": options_page}


def main() -> None:
    """Write all pages into a directory."""
    parser = argparse.ArgumentParser(description="Write the reference pages.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into; made if it is not there")
    directory = parser.parse_args().out
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")
        print(directory / name)


if __name__ == "__main__":
    main()
