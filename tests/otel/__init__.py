"""dbwatch and OpenTelemetry."""
