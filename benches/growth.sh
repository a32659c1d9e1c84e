#!/bin/sh
# How time and memory grow with the side of the image, the captures and the tiles of a batch: a Markdown table.
#
#     benches/growth.sh [MODEL …]
#
# Weights are synthetic; each line is a process of its own, the median of three passes.
set -eu
cd "$(dirname "$0")/.."
serve=${SATLAS_SERVE_BIN:-target/release/satlas-serve}

line() { # MODEL SIZE IMAGES BATCH
    "$serve" bench --weights synthetic:7 --task land_cover --model "$1" --size "$2" --images "$3" --batch "$4" --runs 3 |
        python3 -c '
import json, sys
found = json.load(sys.stdin)
side, images, batch = found["size"], found["images"], found["batch"]
per_megapixel = found["median_s"] / (side * side * images * batch / 1e6)
print("| {} | {} | {} | {} | {:.3f} | {:.2f} | {:.0f} |".format(
    found["model"], side, images, batch, found["median_s"], per_megapixel, found["peak_rss_bytes"] / 2**20))'
}

echo "| model | side, px | captures | tiles | s | s a megapixel of input | peak MiB |"
echo "| --- | --- | --- | --- | --- | --- | --- |"
for model in ${*:-Sentinel2_SwinT Sentinel2_Resnet50}; do
    for side in 128 256 512 1024 2048; do line "${model}_SI_RGB" $side 1 1; done
    for batch in 2 4 8; do line "${model}_SI_RGB" 256 1 $batch; done
    for images in 1 2 4 8; do line "${model}_MI_RGB" 256 $images 1; done
done
