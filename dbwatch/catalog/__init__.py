"""The catalogue: every metric and every finding of dbwatch, once. Data only."""

from dbwatch.catalog.findings import FINDINGS, FindingKind
from dbwatch.catalog.metrics import CHECKOUT_BUCKETS, METRICS, Metric

__all__ = ["CHECKOUT_BUCKETS", "FINDINGS", "METRICS", "FindingKind", "Metric"]
