"""The rule files: recording rules, and the alerts in the order in which to read them."""

from dbwatch.outputs.grafana.alert import Alert, Group, to_yaml
from dbwatch.outputs.grafana.capacity import capacity, itself
from dbwatch.outputs.grafana.causes import causes
from dbwatch.outputs.grafana.recording import recordings
from dbwatch.outputs.grafana.symptoms import symptoms
from dbwatch.outputs.grafana.thresholds import RuleOptions

RECORDING_FILE = "dbwatch-recording.yml"
ALERTS_FILE = "dbwatch-alerts.yml"


def alerts(options: RuleOptions) -> list[Alert]:
    """All alerts: what users feel, then causes, then capacity, then dbwatch itself."""
    return [*symptoms(options), *causes(options), *capacity(options), *itself(options)]


def rule_files(options: RuleOptions) -> dict[str, str]:
    """The rule files by name; Prometheus loads both."""
    alert_groups = [
        Group(f"dbwatch.{name}", [alert.rule(options) for alert in group])
        for name, group in (
            ("symptoms", symptoms(options)),
            ("causes", causes(options)),
            ("capacity", capacity(options)),
            ("itself", itself(options)),
        )
    ]
    recorded = Group("dbwatch.recording", [each.rule() for each in recordings(options)])
    return {RECORDING_FILE: to_yaml([recorded]), ALERTS_FILE: to_yaml(alert_groups)}
