# The command `pipeline` as two images, of one file; from the project's folder:
#     docker build --file deploy/images/pipeline.Dockerfile --target consumer --tag llmlog-pipeline .
#     docker build --file deploy/images/pipeline.Dockerfile --target console --tag llmlog-console .
#     docker run --rm --read-only --tmpfs /tmp --env-file llmlog.env llmlog-pipeline consume --workers 2
# Any base will do that has Python 3.11 or newer with its module venv: BASE names another one.
ARG BASE=python:3.13.9-slim-bookworm

# pip stays in a folder of the build; what runs has none.
FROM ${BASE} AS tools
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/build.txt

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY producer producer
COPY consumer consumer
COPY deploy/local deploy/local
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# What the locks name and nothing else; before our own code, so that a change of that leaves it alone.
FROM tools AS consumer-files
COPY requirements/consumer.txt requirements/
RUN python3 -m venv --without-pip /opt/pipeline \
    && /opt/build/bin/pip --python /opt/pipeline/bin/python install --no-cache-dir --no-deps --require-hashes \
        --requirement requirements/consumer.txt
COPY --from=wheel /wheels /wheels
RUN /opt/build/bin/pip --python /opt/pipeline/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM tools AS console-files
COPY requirements/console.txt requirements/
RUN python3 -m venv --without-pip /opt/pipeline \
    && /opt/build/bin/pip --python /opt/pipeline/bin/python install --no-cache-dir --no-deps --require-hashes \
        --requirement requirements/console.txt
COPY --from=wheel /wheels /wheels
RUN /opt/build/bin/pip --python /opt/pipeline/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

# No pip of the base's, and a place for certificates of a company's own: see docs/images.md.
FROM ${BASE} AS runtime
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && mkdir -p /etc/llmlog/ca
ENV PATH=/opt/pipeline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp

FROM runtime AS console
LABEL org.opencontainers.image.title="llmlog-console" \
    org.opencontainers.image.description="Web page of the pipeline from LiteLLM to Elasticsearch" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=console-files /opt/pipeline /opt/pipeline
USER 10001:10001
EXPOSE 8765
# The login page is what it answers without a login.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/login', timeout=4)"]
ENTRYPOINT ["pipeline"]
CMD ["console", "--host", "0.0.0.0", "--url", "http://127.0.0.1:8765", "--token-file", "/run/secrets/console-tokens"]

FROM runtime AS consumer
LABEL org.opencontainers.image.title="llmlog-pipeline" \
    org.opencontainers.image.description="Consumer and commands of the pipeline from LiteLLM to Elasticsearch" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=consumer-files /opt/pipeline /opt/pipeline
ENV LLMLOG_METRICS_PORT=9464
# A number: Kubernetes cannot tell by a name that a user is not root.
USER 10001:10001
EXPOSE 9464
# Not ready, it waits or drains: health is for what comes after it, and no reason to restart it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/readyz', timeout=4)"]
# Without a shell in between: SIGTERM reaches the supervisor, which drains.
ENTRYPOINT ["pipeline"]
CMD ["consume", "--workers", "2"]
