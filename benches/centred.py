"""Whether search ranks better if the mean of all vectors is taken off first: precision of the 20 nearest cells on the demo's annotated image.

    satlas-serve &
    python benches/centred.py [http://127.0.0.1:8080]        (numpy, tifffile)

Cells that crowns (static/demo/trees.geojson) cover by half are trees, those that they cover by a twentieth at most are ground; others are left out.
"""

import io
import json
import pathlib
import sys
import urllib.request

import numpy as np
import tifffile

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
DEMO = pathlib.Path(__file__).parent.parent / "static" / "demo"
NEAREST, MOST_QUERIES = 20, 300


def vectors(layer, cell_px):
    """One vector for each cell: `[rows, columns, dimensions]`."""
    path = f"/v1/predict/trees/embedding?format=tif&layer={layer}&cell_px={cell_px}"
    body = (DEMO / "trees.tif").read_bytes()
    request = urllib.request.Request(BASE + path, data=body, headers={"Content-Type": "image/tiff"})
    with urllib.request.urlopen(request) as answer:
        bands = tifffile.imread(io.BytesIO(answer.read()))
    # Bands are planes.
    return bands if bands.shape[2] > bands.shape[0] else bands.transpose(1, 2, 0)


def classes(cell_px, rows, columns):
    """1 for trees, 0 for ground, -1 between."""
    height, width = tifffile.imread(DEMO / "trees.tif").shape[:2]
    crowns = np.zeros((height, width), bool)
    for one in json.loads((DEMO / "trees.geojson").read_text())["features"]:
        left, top, right, bottom = (int(side) for side in one["properties"]["pixel_box"])
        crowns[top:bottom, left:right] = True
    found = np.full((rows, columns), -1)
    for row in range(rows):
        for column in range(columns):
            covered = crowns[row * cell_px : (row + 1) * cell_px, column * cell_px : (column + 1) * cell_px].mean()
            found[row, column] = 1 if covered >= 0.5 else 0 if covered <= 0.05 else -1
    return found


def precision(vectors, classes):
    """Of each class, and the median cosine of two cells."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    median = np.median(cosines[~np.eye(len(unit), dtype=bool)])
    np.fill_diagonal(cosines, -9)
    found = []
    for one in (0, 1):
        rows = np.flatnonzero(classes == one)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_QUERIES)).astype(int)]
        nearest = np.argsort(-cosines[rows], axis=1, kind="stable")[:, :NEAREST]
        found.append((classes[nearest] == one).mean())
    return found, median


for layer in ("backbone.3", "backbone.1", "fpn.0"):
    for cell_px in (32, 64):
        cells = vectors(layer, cell_px)
        known = classes(cell_px, *cells.shape[:2]).ravel()
        cells = cells.reshape(len(known), -1).astype(float)
        usable = np.isfinite(cells).all(1) & (np.abs(cells).sum(1) > 0) & (known >= 0)
        cells, known = cells[usable], known[usable]
        for name, these in (("as is", cells), ("centred", cells - cells.mean(0))):
            (ground, trees), median = precision(these, known)
            print(f"{layer} {cell_px} px {name:8} ground {ground:.3f} trees {trees:.3f} mean {(ground + trees) / 2:.3f} median cosine {median:.3f}")
