# The whole program is one binary: demo models, imagery and the map page are embedded.
#
#   docker build -t satlas-serve .
#   docker build -t satlas-serve:gpu --build-arg FEATURES=cuda --build-arg BUILD_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04 \
#     --build-arg RUN_IMAGE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 .
# With FEATURES=cudnn, the images are 13.0.1-cudnn-devel-ubuntu24.04 and 13.0.1-cudnn-runtime-ubuntu24.04.
ARG BUILD_IMAGE=debian:13-slim
ARG RUN_IMAGE=debian:13-slim

FROM ${BUILD_IMAGE} AS build
ARG RUST_VERSION=1.95.0
ARG FEATURES=
# The oldest generation of GPUs that a build with `cuda` is for: none can be asked while an image is built.
ARG CUDA_COMPUTE_CAP=80
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs \
    | sh -s -- -y --profile minimal --default-toolchain ${RUST_VERSION}
ENV PATH=/root/.cargo/bin:${PATH} CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP}
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY static static
RUN --mount=type=cache,target=/root/.cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin satlas-serve --features "${FEATURES}" \
    && cp target/release/satlas-serve /satlas-serve

FROM ${RUN_IMAGE}
# /results is for a volume that servers and workers share; it takes the owner of the folder.
RUN useradd --system --uid 10001 --create-home --home-dir /data satlas && install --directory --owner=satlas /results
COPY --from=build /satlas-serve /usr/local/bin/satlas-serve
USER satlas
WORKDIR /data
ENV SATLAS_HOST=0.0.0.0 SATLAS_PORT=8080 SATLAS_DATA_DIR=/data HF_HOME=/data/huggingface
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["satlas-serve", "health"]
ENTRYPOINT ["satlas-serve"]
CMD ["serve"]
