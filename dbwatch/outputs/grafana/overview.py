"""The overview: is anyone hurt? The verdict, then rate, errors and duration of checkouts, then use of the pools."""

from grafana_foundation_sdk.models import dashboard as models

from dbwatch.outputs.grafana import links
from dbwatch.outputs.grafana.expressions import (
    BUCKETS,
    CHECKOUTS,
    FAST,
    FINDINGS,
    LEAKED,
    LIMIT,
    OLDEST_WAITER,
    P95_BY_INSTANCE,
    USED,
    USED_SHARE,
    WAITERS,
)
from dbwatch.outputs.grafana.frame import ALERT_NAMES, DashboardOptions, build, selected
from dbwatch.outputs.grafana.layout import Section
from dbwatch.outputs.grafana.panels import (
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Column,
    Query,
    Style,
    distribution,
    thresholds,
    time_series,
    values_table,
)
from dbwatch.outputs.grafana.promql import POOL_LABELS, events, increase, max_by, quantile, rate, sum_by
from dbwatch.outputs.grafana.verdict import verdict


def overview(options: DashboardOptions) -> models.Dashboard:
    """The dashboard to open first."""
    return build(
        links.OVERVIEW_UID,
        "dbwatch / Overview",
        "Is anyone hurt by the database connection pools, and is the pool the bottleneck?",
        (verdict(), _red(), _use(), _wrong(options), _itself()),
        options,
    )


def _red() -> Section:
    return Section(
        "Are users hurt? Rate, errors and duration of checkouts",
        (
            time_series(
                "Checkouts by outcome",
                "Good: all ok. If not: timeout is a full queue, error is a connection that could not be opened, "
                "cancelled is a caller that went away; look at 'Failures by reason'.",
                "suffix:/s",
                Query(sum_by(("outcome",), rate(CHECKOUTS)), "{{outcome}}"),
                colors={"ok": GREEN, "timeout": RED, "error": ORANGE, "cancelled": GREY},
                stacked=True,
                size=(12, 8),
            ),
            time_series(
                "Share of checkouts within 100 ms",
                "By pool; the dashed line is the objective of 99.9 %. Good: above the line. If not, the pool "
                "dashboard's 'Where checkout time goes' tells queue, connect and ping apart.",
                "percentunit",
                Query(
                    f"{sum_by(('pool',), rate(FAST))} / ({sum_by(('pool',), rate(CHECKOUTS))} > 0)",
                    "{{pool}}",
                    Style(fill=0),
                ),
                smallest=None,
                largest=1,
                line_at=0.999,
                size=(12, 8),
            ),
            time_series(
                "Checkout time",
                "From asking for a connection to having it, timed-out checkouts included. Good: p95 below 100 ms and "
                "the worst instance close to the others. If not, look at 'Pools by instance' for the one that "
                "differs.",
                "s",
                Query(quantile(0.5, BUCKETS, ()), "p50", Style(GREEN)),
                Query(quantile(0.95, BUCKETS, ()), "p95", Style(ORANGE), exemplar=True),
                Query(quantile(0.99, BUCKETS, ()), "p99", Style(RED)),
                Query(f"max({P95_BY_INSTANCE})", "p95, worst instance", Style(PURPLE, dashed=True)),
                size=(12, 8),
            ),
            distribution(
                "Checkout time, distribution",
                "Good: one dark band at the bottom. If a second band appears higher up, some checkouts wait: its "
                "height is how long; look at 'Where checkout time goes' on the pool dashboard.",
                Query(sum_by(("le",), increase(BUCKETS)), "{{le}}", exemplar=True),
                size=(12, 8),
            ),
        ),
    )


def _use() -> Section:
    used = max_by(POOL_LABELS, USED)
    return Section(
        "Is the pool the bottleneck? Use, saturation and errors of pools",
        (
            time_series(
                "Used share of the limit",
                "One line for each pool of each instance, never an average; an unlimited pool stays at 0 %. Good: "
                "below 100 % most of the time. If lines stay at 100 % and somebody waits, the pool is the "
                "bottleneck: see who holds the connections on the routes dashboard.",
                "percentunit",
                Query(max_by(POOL_LABELS, USED_SHARE), "{{instance}} {{pool}}"),
                largest=1,
                size=(12, 8),
            ),
            time_series(
                "Waiters and the oldest one",
                "Checkouts in the queue (left) and how long the first has waited (right). Good: short waits; a queue "
                "that moves is healthy. If the oldest waiter grows, nobody gives connections back: look at 'Oldest "
                "checkout' on the pool dashboard.",
                "short",
                Query(sum_by(("pool",), WAITERS), "waiters, {{pool}}", Style(fill=20)),
                Query(
                    max_by(("pool",), OLDEST_WAITER),
                    "oldest, {{pool}}",
                    Style(dashed=True, fill=0, right_axis_unit="s"),
                ),
                size=(12, 8),
            ),
            time_series(
                "Failures by reason",
                "Events in the window behind each point. Good: empty. If not: timeouts, look at the routes dashboard "
                "for the holders; connect errors, look at the database; pre-ping failures, at what cut idle "
                "connections; leaks, at 'Leaks by route'.",
                "short",
                Query(f"sum({increase(selected('dbwatch_checkout_timeouts_total'))})", "checkout timeouts", Style(RED)),
                Query(f"sum({increase(selected('dbwatch_connect_errors_total'))})", "connect errors", Style(ORANGE)),
                Query(
                    f"sum({increase(selected('dbwatch_pre_ping_failures_total'))})", "pre-ping failures", Style(YELLOW)
                ),
                Query(f"sum({increase(selected('dbwatch_leaks_total'))})", "leaks", Style(PURPLE)),
                bars=True,
                size=(24, 6),
            ),
            values_table(
                "Pools by instance",
                "The fullest first. Good: all instances alike and nobody waiting. If one differs, open its pool "
                "dashboard by the link on its name.",
                (
                    Column("Pool", label="pool", link=_pool_link()),
                    Column("Instance", label="instance"),
                    Column("Job", label="job"),
                    Column(
                        "Used share",
                        max_by(POOL_LABELS, USED_SHARE),
                        unit="percentunit",
                        limits=thresholds((0.8, YELLOW), (1, ORANGE)),
                    ),
                    Column("Used", used),
                    Column("Limit", max_by(POOL_LABELS, LIMIT), names={"Infinity": ("unlimited", "")}),
                    Column("Waiting", max_by(POOL_LABELS, WAITERS), limits=thresholds((1, ORANGE))),
                    Column(
                        "Oldest waiter",
                        max_by(POOL_LABELS, OLDEST_WAITER),
                        unit="s",
                        limits=thresholds((1, ORANGE), (10, RED)),
                    ),
                    Column("Checkout p95", P95_BY_INSTANCE, unit="s", limits=thresholds((0.1, ORANGE), (1, RED))),
                    Column("Leaked", max_by(POOL_LABELS, LEAKED), limits=thresholds((1, RED))),
                ),
                sort_by="Used share",
                size=(24, 7),
            ),
        ),
    )


def _wrong(options: DashboardOptions) -> Section:
    return Section(
        "What is wrong",
        (
            values_table(
                "Alerts firing now",
                "Good: no rows (or the rules are not loaded: then 'Firing alerts' stays 0 as well). If not, the name "
                "links to the runbook.",
                (
                    Column(
                        "Alert",
                        label="alertname",
                        width=250,
                        link=links.runbook_url("${__value.raw}", options.runbooks_url),
                    ),
                    Column("Severity", label="severity", width=90),
                    Column("Job", label="job"),
                    Column("Instance", label="instance"),
                    Column("Pool", label="pool"),
                    Column("Rank", _firing_by_rank(), hidden=True),
                ),
                sort_by="Rank",
                size=(12, 7),
            ),
            values_table(
                "Findings",
                "Mistakes proven at run time since the processes started. Good: no rows. If not, the application's "
                "log has the code lines, the cause and the fix of each.",
                (
                    Column("Finding", label="finding", width=170),
                    Column("Pool", label="pool", width=120),
                    Column("Method", label="method", width=80),
                    Column("Route", label="route"),
                    Column("Times", sum_by(("finding", "pool", "method", "route"), FINDINGS), width=80),
                ),
                sort_by="Times",
                size=(12, 7),
            ),
        ),
    )


def _firing_by_rank() -> str:
    """The firing alerts, valued so that those that page come first."""
    return "\nor\n".join(
        f"{rank} * max by (alertname, severity, job, instance, pool) "
        f'(ALERTS{{alertname=~"{ALERT_NAMES}",alertstate="firing",severity="{severity}",'
        'job=~"$job|",pool=~"$pool|"})'
        for rank, severity in ((3, "critical"), (2, "warning"), (1, "info"))
    )


def _itself() -> Section:
    return Section(
        "dbwatch itself",
        (
            values_table(
                "Versions",
                "Good: every instance listed, one version. If an instance is missing, it is not scraped or dbwatch "
                "is switched off there.",
                (
                    Column("Version", label="version"),
                    Column("Job", label="job"),
                    Column("Instance", label="instance"),
                    Column("Processes seen", max_by(("version", "job", "instance"), selected("dbwatch_build_info"))),
                ),
                sort_by="Instance",
                size=(8, 6),
            ),
            time_series(
                "Internal errors by place",
                "Errors inside dbwatch, kept away from the application. Good: empty. If not, the application's log "
                "has the traceback of the first of each place; please report it.",
                "short",
                Query(sum_by(("site",), events(selected("dbwatch_internal_errors_total"))), "{{site}}"),
                bars=True,
                size=(8, 6),
            ),
            time_series(
                "Folded labels",
                "Pools or routes counted under '(other)' because there were too many. Good: 0. If not, look for "
                "route templates or engine names that are made at run time.",
                "short",
                Query(sum_by(("label",), increase(selected("dbwatch_label_overflow_total"))), "{{label}}"),
                bars=True,
                size=(8, 6),
            ),
        ),
        collapsed=True,
    )


def _pool_link() -> str:
    return (
        f"/d/{links.POOL_UID}?${{datasource:queryparam}}&var-job=${{__data.fields.Job}}"
        "&var-instance=${__data.fields.Instance}&var-pool=${__value.raw:percentencode}&${__url_time_range}"
    )
