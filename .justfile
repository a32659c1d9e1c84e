# Short names for the steps of .ci/run, which needs no just.

# All checks but msrv and aarch64.
check:
    bash .ci/run

# Formatting, and clippy with warnings denied.
lint:
    bash .ci/run lint

# All tests, the comparison with PyTorch included.
test:
    bash .ci/run tests

# The crate's documentation, with warnings denied.
docs:
    bash .ci/run docs

# Compare openapi/openapi.json with what the binary prints.
openapi:
    bash .ci/run openapi

# Rewrite what the step `openapi` compares with.
bless:
    bash .ci/run bless

# Run the examples of README.md.
readme:
    bash .ci/run readme

# Drive the map viewer in Chromium.
viewer:
    bash .ci/run viewer

# Generate clients from the OpenAPI document and run a round trip of each.
clients:
    bash .ci/run clients

# Run area jobs into a bucket of an S3 that answers badly.
buckets:
    bash .ci/run buckets

# Area jobs on several workers with PostgreSQL and pgbouncer, which are killed meanwhile.
fleet:
    bash .ci/run fleet

# Licences, bans, sources and security advisories of all dependencies.
deny:
    bash .ci/run deny

# Compile with the oldest Rust that Cargo.toml declares.
msrv:
    bash .ci/run msrv

# Compile for 64-bit ARM.
aarch64:
    bash .ci/run aarch64

# Static binary, list of components and notices of third parties, into target/release-files.
release:
    bash .ci/run release
