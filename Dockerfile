# The demo app for docker-compose.yml. The load generator is in the same image.
FROM python:3.13.14-slim

WORKDIR /srv
COPY pyproject.toml README.md LICENSE ./
COPY dbwatch ./dbwatch
COPY demo_app ./demo_app
# The rule asks for a version, and this is the directory copied above.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[demo]'

USER 10001:10001
EXPOSE 8000
# Ctrl-C and `docker stop` end the demo with everything it started.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "demo_app"]
