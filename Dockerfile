# All four programs from one build: `docker build --target auth|ledger|gateway|atm-cli .`
# Serves BuildKit and the classic builder alike, so there is no `# syntax=` line and no `RUN --mount`.

# The crates' manifests, with every source file replaced by an empty program. This stage runs on every change, but
# its result is the same until a manifest, the lock file or a file's name changes; so is what is built from it.
FROM rust:1.95.0-bookworm AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name '*.rs' ! -name Cargo.toml ! -name Cargo.lock -delete \
 && find . -name '*.rs' -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' stub {} + \
 && find . -type d -empty -delete

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# Static against glibc: the programs run in an empty image. The target is the toolchain's own, x86-64 and Arm alike;
# it is named so that the flag reaches the programs only, not build scripts and procedural macros.
ENV RUSTFLAGS="-C target-feature=+crt-static"
COPY --from=manifests /src .
RUN cargo build --release --locked --target "$(rustc --print host-tuple)" \
      -p atm-auth -p atm-ledger -p atm-gateway -p atm-cli
COPY . .
# Copied files keep their dates, which may be older than the stubs that were just compiled.
RUN find . -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --target "$(rustc --print host-tuple)" \
      -p atm-auth -p atm-ledger -p atm-gateway -p atm-cli \
 && mkdir /out \
 && for program in atm-auth atm-ledger atm-gateway atm-cli; do \
      strip --strip-debug -o "/out/$program" "target/$(rustc --print host-tuple)/release/$program" || exit 1; \
    done \
 && mkdir -m 0700 /out/data /out/secrets

# An image from scratch has no users and no mkdir: directories come ready, owned by the user who will write to them.
# A new named volume takes owner and mode from the directory it is mounted on.

FROM scratch AS auth
COPY --from=build /out/atm-auth /atm-auth
COPY --from=build --chown=10001:10001 /out/data /data
USER 10001:10001
ENV ATM_AUTH_LISTEN=0.0.0.0:50052 ATM_AUTH_DATA=/data
EXPOSE 50052
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/atm-auth", "health"]
ENTRYPOINT ["/atm-auth"]

FROM scratch AS ledger
COPY --from=build /out/atm-ledger /atm-ledger
COPY --from=build --chown=10001:10001 /out/data /data
USER 10001:10001
ENV ATM_LEDGER_LISTEN=0.0.0.0:50053 ATM_LEDGER_DATA=/data
EXPOSE 50053
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/atm-ledger", "health"]
ENTRYPOINT ["/atm-ledger"]

FROM scratch AS gateway
COPY --from=build /out/atm-gateway /atm-gateway
USER 10001:10001
ENV ATM_GATEWAY_LISTEN=0.0.0.0:50051
EXPOSE 50051
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/atm-gateway", "health"]
ENTRYPOINT ["/atm-gateway"]

# The cash machine and the operator's tools. Also makes the secrets, hence the directories to mount their volumes on.
FROM scratch AS atm-cli
COPY --from=build /out/atm-cli /atm-cli
COPY examples /examples
COPY --from=build --chown=10001:10001 /out/data /data
COPY --from=build --chown=10001:10001 /out/secrets /secrets/service
COPY --from=build --chown=10001:10001 /out/secrets /secrets/auth
COPY --from=build --chown=10001:10001 /out/secrets /secrets/operator
USER 10001:10001
ENV ATM_STATE_DIR=/data
ENTRYPOINT ["/atm-cli"]
