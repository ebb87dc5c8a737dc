# Builds with `make build` in a first stage. The final image has only the binary and the ONNX Runtime library.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip make && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Makefile Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY scripts scripts
RUN make onnxruntime
COPY config config
COPY src src
COPY benches benches
COPY tests tests
RUN make build

FROM debian:bookworm-slim
# A graph with a StringNormalizer changes the case of texts in this locale.
RUN apt-get update && apt-get install -y --no-install-recommends locales && localedef -i en_US -f UTF-8 en_US.UTF-8 \
    && apt-get purge -y locales && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home predictd && mkdir -p /var/lib/predictd /models && chown predictd /var/lib/predictd
COPY --from=build /build/target/release/predictd /usr/local/bin/predictd
COPY --from=build /build/.onnxruntime/libonnxruntime.so /usr/local/bin/libonnxruntime.so
COPY LICENSE /usr/share/doc/predictd/LICENSE
USER predictd
WORKDIR /
ENV PREDICTD_SERVER__LISTEN=0.0.0.0:8080 \
    PREDICTD_SERVER__GRPC_LISTEN=0.0.0.0:8081 \
    PREDICTD_MODELS__ROOT=/models \
    PREDICTD_STATE__URL=/var/lib/predictd \
    PREDICTD_TELEMETRY__LOG_FORMAT=json
EXPOSE 8080 8081
VOLUME ["/models", "/var/lib/predictd"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["predictd", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["predictd"]
CMD ["serve"]
