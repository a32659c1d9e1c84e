#!/bin/sh
# Builds the server, makes a Python environment with the peers under target/, and runs the comparison there.
# PEERS_PYTHON names an interpreter that has the peers already.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked
python=${PEERS_PYTHON:-target/peers/venv/bin/python}
if [ ! -x "$python" ]; then
    python3 -m venv target/peers/venv
    "$python" -m pip install --quiet --requirement benches/peers/requirements.txt
fi
exec "$python" benches/peers/run.py "$@"
