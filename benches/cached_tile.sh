#!/usr/bin/env bash
# Requests per second for one cached tile, beside nginx serving the same bytes from a file, in turns on this machine.
#
# usage: benches/cached_tile.sh [BINARY]     needs wrk, nginx, curl and python3
# ROUNDS (default 5), SECONDS_EACH (default 5) and CONNECTIONS (default 64) may be set.
set -euo pipefail
binary=${1:-target/release/satlas-serve}
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-64}
folder=$(mktemp -d)
tile='/v1/tiles/world/water/4/8/6.png?source=world'
ours_port=18467 nginx_port=18468

cleanup() {
    kill "${server:-}" 2>/dev/null || true
    nginx -c "$folder/nginx.conf" -s stop 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

"$binary" --port "$ours_port" >"$folder/server.log" 2>&1 &
server=$!
until curl -sf "http://127.0.0.1:$ours_port/health/ready" >/dev/null; do sleep 0.1; done
curl -sf -o "$folder/tile.png" "http://127.0.0.1:$ours_port$tile"

# The workers must be able to read the folder whoever nginx runs them as.
chmod 755 "$folder"
cat >"$folder/nginx.conf" <<CONF
worker_processes auto;
pid $folder/nginx.pid;
error_log $folder/error.log;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    types { image/png png; }
    server { listen 127.0.0.1:$nginx_port; root $folder; }
}
CONF
nginx -c "$folder/nginx.conf" -e "$folder/error.log"

rate() {
    wrk -t2 -c"$connections" -d"${seconds}s" "$1" | awk '/^Requests\/sec/ { print $2 }'
}

rate "http://127.0.0.1:$ours_port$tile" >/dev/null
rate "http://127.0.0.1:$nginx_port/tile.png" >/dev/null
for _ in $(seq "$rounds"); do
    rate "http://127.0.0.1:$ours_port$tile" >>"$folder/ours"
    rate "http://127.0.0.1:$nginx_port/tile.png" >>"$folder/nginx"
done
python3 - "$folder" "$connections" <<'PYTHON'
import pathlib, statistics, sys
folder, connections = pathlib.Path(sys.argv[1]), sys.argv[2]
ours, nginx = ([float(line) for line in (folder / name).read_text().split()] for name in ("ours", "nginx"))
ratios = [a / b for a, b in zip(ours, nginx)]
size = (folder / "tile.png").stat().st_size
print(f"{size} bytes, {connections} connections, medians of {len(ours)} rounds in turns:")
print(f"satlas-serve {statistics.median(ours):.0f}/s, nginx {statistics.median(nginx):.0f}/s, ratio {statistics.median(ratios):.2f}"
      f" ({min(ratios):.2f} to {max(ratios):.2f})")
PYTHON
