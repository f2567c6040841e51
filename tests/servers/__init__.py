"""Throwaway servers on free loopback ports: databases, Prometheus, uvicorn, and a proxy that breaks connections."""
