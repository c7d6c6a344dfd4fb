# syntax=docker/dockerfile:1

# The image of the demonstration; for your own, replace the last two lines (see docs/start.md).

FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV FASTSERVE_EXTENSIONS=require
RUN python -m venv /opt/fastserve \
    && /opt/fastserve/bin/pip install --no-cache-dir '.[demo]'

FROM python:3.13-slim
COPY --from=build /opt/fastserve /opt/fastserve
ENV PATH=/opt/fastserve/bin:$PATH
RUN useradd --system --no-create-home fastserve
USER fastserve
WORKDIR /srv
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/json', timeout=2)"]
ENTRYPOINT ["fastserve", "--host", "0.0.0.0"]
CMD ["demo", "--workers", "auto"]
