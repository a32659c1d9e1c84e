# Everything CI checks.
check:
    bash .ci/run

# Rewrite what tests compare with: the OpenAPI document.
bless:
    cargo run --release -- openapi > openapi/openapi.json
