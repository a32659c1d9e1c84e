#!/usr/bin/env bash
# Memory of a server that loads models and unloads them: what the models are counted as, and what the process holds (RSS), MiB.
# Weights are synthetic, so nothing is downloaded. Usage: benches/memory.sh [MODEL…]
set -euo pipefail
binary=${SATLAS_SERVE:-target/release/satlas-serve}
[ $# -gt 0 ] || set -- Sentinel2_SwinB_SI_RGB Sentinel2_SwinT_SI_MS Sentinel2_Resnet50_SI_RGB
out=$(mktemp)
"$binary" --port 0 --weights synthetic:7 --log-level error > "$out" 2> /dev/null &
server=$!
trap 'kill $server; rm -f "$out"' EXIT
until url=$(grep -o 'http://[0-9.:]*' "$out"); do sleep 0.2; done

report() {
  counted=$(curl -s "$url/metrics" | awk '/^satlas_model_bytes\{/ { sum += $2 } END { printf "%d", sum / 1048576 }')
  resident=$(awk '/^VmRSS/ { printf "%d", $2 / 1024 }' "/proc/$server/status")
  printf '%-28s counted %5d MiB   resident %5d MiB\n' "$1" "$counted" "$resident"
}

report 'at start'
for round in 1 2; do
  for model in "$@"; do curl -s -o /dev/null -X POST "$url/v1/models/$model/load"; done
  report "round $round: ${#} models loaded"
  for model in "$@"; do curl -s -o /dev/null -X POST "$url/v1/models/$model/unload"; done
  report "round $round: all unloaded"
  sleep 12
  report "round $round: 12 s later"
done
