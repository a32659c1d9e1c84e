"""What ten labels a class teach the demo: tree crowns on the image that its model never saw, beside scikit-learn on the same features.

    satlas-serve &
    python benches/demo_fit.py [http://127.0.0.1:8080] [auto | linear | knn] [LABELS]        (scikit-learn 1.9.1, numpy)

Labels are the centres of annotated crowns (static/demo/trees.geojson) and as many places outside of all crowns. For each of ten seeds, LABELS
(ten) of each class are drawn at random and fitted by the server; the map that it then serves is compared with all labels that were not drawn.
scikit-learn gets the feature vectors of the same pixels, a StandardScaler, the same penalties (knn: numbers of neighbours), and chooses one by folds of its
own: as many as there are labels of a class, at most five. With one label of a class it takes what the server takes where nothing can be held out. Of auto,
scikit-learn does what the server has chosen.
"""

import io
import json
import math
import pathlib
import sys
import time
import urllib.error
import urllib.request

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
DEMO = pathlib.Path(__file__).parent.parent / "static" / "demo"
METHOD = sys.argv[2] if len(sys.argv) > 2 else "auto"
SEEDS, LABELS = 10, int(sys.argv[3]) if len(sys.argv) > 3 else 10
# Tiles of 256 pixels of about the size that the model was trained on.
ZOOM, TILE_PX = 20, 256
# Features stand for squares of so many pixels.
STRIDE = 4
PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2]
NEIGHBOURS = [25, 15, 9, 7, 5, 3, 1]
CLASSES = ["ground", "tree"]
# Between crowns and places without, in degrees of latitude: half a metre.
MARGIN = 4.5e-6


def ask(path, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def pixel_of(place):
    """Column and row of a place in all pixels of the zoom, with fractions."""
    lon, lat = place
    side = TILE_PX * 2**ZOOM
    north = math.asinh(math.tan(math.radians(lat)))
    return (lon + 180) / 360 * side, (1 - north / math.pi) / 2 * side


def labels(rng):
    """Places of crowns, and as many places outside of them on the image."""
    crowns = [np.array(one["geometry"]["coordinates"][0]) for one in json.loads((DEMO / "trees.geojson").read_text())["features"]]
    boxes = np.array([[*ring.min(0) - MARGIN, *ring.max(0) + MARGIN] for ring in crowns])
    trees = [tuple((box[:2] + box[2:]) / 2) for box in boxes]
    west, south, east, north = json.loads(ask("/v1/sources/trees"))["bounds"]
    ground = []
    while len(ground) < len(trees):
        # The image is turned a little within its bounds: its corners have no data.
        lon, lat = rng.uniform(west + 2e-5, east - 2e-5), rng.uniform(south + 2e-5, north - 2e-5)
        inside = (boxes[:, 0] < lon) & (lon < boxes[:, 2]) & (boxes[:, 1] < lat) & (lat < boxes[:, 3])
        if not inside.any() and feature((lon, lat)).any():
            ground.append((lon, lat))
    return np.array(ground + trees), np.repeat([0, 1], len(trees))


TILES = {}


def tile(kind, x, y, query):
    key = (kind, x, y, query)
    if key not in TILES:
        TILES[key] = np.load(io.BytesIO(ask(f"/v1/tiles/{kind}/{ZOOM}/{x}/{y}.npy?source=trees{query}")))
    return TILES[key]


def feature(place, layer="fpn.0", stride=STRIDE):
    """The feature vector at the pixel of a place, interpolated between cells as the server does it (but within the tile)."""
    col, row = (int(at) for at in pixel_of(place))
    cells = tile("trees/embedding", col // TILE_PX, row // TILE_PX, f"&layer={layer}&pool=none")
    cells = cells.reshape(cells.shape[-3:])
    at = [np.clip(((pixel % TILE_PX) + 0.5) / stride - 0.5, 0, cells.shape[1] - 1) for pixel in (row, col)]
    (top, left), (down, across) = [int(v) for v in at], [v % 1 for v in at]
    bottom, right = min(top + 1, cells.shape[1] - 1), min(left + 1, cells.shape[2] - 1)
    upper = cells[:, top, left] * (1 - across) + cells[:, top, right] * across
    lower = cells[:, bottom, left] * (1 - across) + cells[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def served(model, places, names):
    """What the map of a model says at places, as indices into CLASSES."""
    said = []
    for place in places:
        col, row = (int(at) for at in pixel_of(place))
        found = tile(f"{model}/ground", col // TILE_PX, row // TILE_PX, "")
        found = found.argmax(0) if found.ndim == 3 else found
        said.append(CLASSES.index(names[int(found[row % TILE_PX, col % TILE_PX])]))
    return np.array(said)


def fit(model, places, classes):
    """Fits a head and returns its description."""
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": list(place)}, "properties": {"class": CLASSES[one]}}
        for place, one in zip(places, classes)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    body = {"id": model, "task": "ground", "type": "segment", "source": "trees", "labels": collection, "method": METHOD}
    job = json.loads(ask("/v1/models/trees/fit", body))
    while job["state"] not in ("done", "failed", "cancelled"):
        time.sleep(0.1)
        job = json.loads(ask(job["links"]["self"]))
    assert job["state"] == "done", job
    return json.loads(ask(f"/v1/models/{model}"))


def folds_of(y):
    return StratifiedKFold(min(5, int(np.bincount(y).min())), shuffle=True, random_state=0)


def asked(x, y):
    """scikit-learn's nearest neighbours, as many as meet held-out labels best."""

    def model(count):
        return make_pipeline(StandardScaler(), KNeighborsClassifier(count, metric="cosine", algorithm="brute"))

    if np.bincount(y).min() < 2:
        return model(1).fit(x, y)
    folds = folds_of(y)
    counts = [count for count in NEIGHBOURS if count <= len(y) - len(y) // folds.n_splits]
    squares = [((cross_val_predict(model(k), x, y, cv=folds, method="predict_proba")[:, 1] - y) ** 2).sum() for k in counts]
    return model(counts[int(np.argmin(squares))]).fit(x, y)


def learnt(x, y, method):
    """scikit-learn's classifier, with the penalty under which held-out labels are likeliest."""
    if method == "knn":
        return asked(x, y)

    def model(c):
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=10_000))

    if np.bincount(y).min() < 2:
        return model(1.0).fit(x, y)
    folds = folds_of(y)
    losses = [log_loss(y, cross_val_predict(model(c), x, y, cv=folds, method="predict_proba")) for c in PENALTIES]
    return model(PENALTIES[int(np.argmin(losses))]).fit(x, y)


def main():
    scores = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        places, classes = labels(rng)
        drawn = np.concatenate([rng.choice(np.flatnonzero(classes == one), LABELS, replace=False) for one in (0, 1)])
        others = np.setdiff1d(np.arange(len(classes)), drawn)
        model = f"demo-fit-{seed}"
        told = fit(model, places[drawn], classes[drawn])
        names = [one["name"] if isinstance(one, dict) else one for one in told["tasks"][0]["categories"]]
        ours = served(model, places[others], names)
        x = np.array([feature(place) for place in places])
        method = "knn" if "neighbours" in told["fit"] else "linear"
        theirs = learnt(x[drawn], classes[drawn], method).predict(x[others])
        ask(f"/v1/models/{model}", method="DELETE")
        true = classes[others]
        scores.append([accuracy_score(true, ours), f1_score(true, ours), accuracy_score(true, theirs), f1_score(true, theirs), np.mean(ours == theirs)])
        told = told["fit"].get("held_out") or {}
        print(seed, method, *(f"{score:.3f}" for score in scores[-1]), f"its own estimate of accuracy {told.get('accuracy')}", flush=True)
    for name, mean, deviation in zip(["accuracy", "F1", "accuracy, scikit-learn", "F1, scikit-learn", "agreement"], np.mean(scores, 0), np.std(scores, 0, ddof=1)):
        print(f"{name:24} {mean:.3f} ± {deviation:.3f}")


if __name__ == "__main__":
    main()
