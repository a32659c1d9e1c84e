#!/bin/sh
# Kills the server 200 times under load, and checks that it has kept all that it had acknowledged.
#
#     benches/kills.sh [KILLS]
set -eu
cd "$(dirname "$0")/.."
SATLAS_KILLS=${1:-200} cargo test --release --locked --test kill -- --nocapture
