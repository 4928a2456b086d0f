# Builds the one binary and puts it alone, with certificate authorities, on a small Debian.
#
#   docker build -t postrider .
#   docker run -p 8080:8080 -v postrider:/var/lib/postrider postrider

FROM rust:1.95-trixie AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p postrider && cp target/release/postrider /postrider

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/postrider --shell /usr/sbin/nologin postrider \
    && install -d -m 0700 -o postrider -g postrider /var/lib/postrider
COPY --from=build /postrider /usr/local/bin/postrider
USER postrider
ENV POSTRIDER_LISTEN=0.0.0.0:8080 POSTRIDER_DATA=/var/lib/postrider POSTRIDER_LOG_FORMAT=json
VOLUME /var/lib/postrider
EXPOSE 8080
# Longer than POSTRIDER_SHUTDOWN_GRACE (20 s): use `docker stop --time 30`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["postrider", "doctor", "--healthcheck"]
ENTRYPOINT ["postrider"]
CMD ["serve"]
