"""Expressions that more than one panel of the overview asks for."""

from dbwatch.outputs.grafana.frame import selected
from dbwatch.outputs.grafana.promql import POOL_LABELS, quantile

CHECKOUTS = selected("dbwatch_checkout_seconds_count")
FAILED = selected("dbwatch_checkout_seconds_count", outcome=("timeout", "error"))
BUCKETS = selected("dbwatch_checkout_seconds_bucket")
#: A checkout that its caller gave up on at once hurt nobody.
FAST = selected("dbwatch_checkout_seconds_bucket", outcome=("ok", "cancelled"), le="0.1")
USED = selected("dbwatch_pool_connections", state="used")
LIMIT = selected("dbwatch_pool_limit")
WAITERS = selected("dbwatch_pool_waiters")
OLDEST_WAITER = selected("dbwatch_pool_oldest_waiter_seconds")
TIMEOUT = selected("dbwatch_pool_timeout_seconds")
LEAKED = selected("dbwatch_pool_leaked_connections")
BLOCKED = selected("dbwatch_event_loop_blocked_seconds_total")
FINDINGS = selected("dbwatch_findings_total")

USED_SHARE = f"{USED} / ignoring (state) {LIMIT}"
WAIT_SHARE = f"{OLDEST_WAITER} / ({TIMEOUT} > 0)"
P95_BY_INSTANCE = quantile(0.95, BUCKETS, POOL_LABELS)
