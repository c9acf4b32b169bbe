# LiteLLM's proxy with our callback; from the project's folder, LiteLLM of its package, pinned with hashes:
#     docker build --file deploy/images/gateway.Dockerfile --target gateway --tag llmlog-gateway .
# or LiteLLM's own image with the callback in it, whose Python has to be the version of BASE's:
#     docker build --file deploy/images/gateway.Dockerfile --target derived --tag llmlog-gateway \
#         --build-arg LITELLM_IMAGE=litellm/litellm:TAG --build-arg BASE=python:3.13.9-slim-bookworm .
ARG BASE=python:3.13.9-slim-bookworm
ARG LITELLM_IMAGE=litellm/litellm:main-stable

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/build.txt requirements/image-gateway.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/build.txt

# The callback and what it needs that LiteLLM does not bring: one folder, a layer of its own.
FROM build AS callback
RUN /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes --target /opt/llmlog \
        --requirement requirements/image-gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY producer producer
COPY consumer consumer
COPY deploy/local deploy/local
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip install --no-cache-dir --no-deps --no-index --target /opt/llmlog /wheels/*.whl

FROM build AS litellm
COPY requirements/image-litellm.txt requirements/
RUN python3 -m venv --without-pip /opt/litellm \
    && /opt/build/bin/pip --python /opt/litellm/bin/python install --no-cache-dir --no-deps --require-hashes \
        --requirement requirements/image-litellm.txt

FROM ${LITELLM_IMAGE} AS derived
COPY --from=callback /opt/llmlog /opt/llmlog
ENV PYTHONPATH=/opt/llmlog LLMLOG_JOURNAL_DIR=/var/lib/llmlog/journal

FROM ${BASE} AS gateway
LABEL org.opencontainers.image.title="llmlog-gateway" \
    org.opencontainers.image.description="LiteLLM's proxy with the callback of llmlog-pipeline" \
    org.opencontainers.image.licenses="Apache-2.0"
# The journal's folder is the user's: a volume that is mounted there takes it over.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && mkdir -p /etc/llmlog/ca /etc/litellm /var/lib/llmlog/journal \
    && chown -R 10001:10001 /var/lib/llmlog
COPY --from=litellm /opt/litellm /opt/litellm
COPY --from=callback /opt/llmlog /opt/llmlog
ENV PATH=/opt/litellm/bin:$PATH PYTHONPATH=/opt/llmlog PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True LLMLOG_JOURNAL_DIR=/var/lib/llmlog/journal HOME=/tmp
WORKDIR /tmp
USER 10001:10001
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:4000/health/readiness', timeout=4)"]
ENTRYPOINT ["litellm"]
CMD ["--config", "/etc/litellm/config.yaml", "--port", "4000"]
