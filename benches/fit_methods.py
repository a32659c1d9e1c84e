"""Which method tells few labels apart best: neighbours or a linear layer, on features of several layers of the demo's `trees`.

    satlas-serve &
    python benches/fit_methods.py [http://127.0.0.1:8080]        (scikit-learn 1.9.1, numpy)

Labels and features as in demo_fit.py, but scikit-learn alone, which gives what the server gives. For each layer and number of labels (ground, crowns), both
methods learn from the same twenty random draws and are asked about all labels that were not drawn. The score is the mean over both classes of the part that is
right; printed are the means, and the mean difference with its standard error.
"""

import warnings

import numpy as np
from demo_fit import feature, labels, learnt

DRAWS = 20
STRIDES = {"fpn.0": 4, "backbone.0": 4, "backbone.1": 8, "backbone.2": 16, "backbone.3": 32}
LAYERS = [["fpn.0"], ["backbone.1"], ["backbone.2"]]
NUMBERS = [(2, 2), (5, 5), (10, 10), (20, 20), (50, 50), (5, 20), (10, 40)]


def score(model, x, y):
    said = model.predict(x)
    return np.mean([(said[y == one] == one).mean() for one in (0, 1)])


def main():
    warnings.simplefilter("ignore")
    places, classes = labels(np.random.default_rng(0))
    for layers in LAYERS:
        x = np.array([np.concatenate([feature(place, layer, STRIDES[layer]) for layer in layers]) for place in places])
        for numbers in NUMBERS:
            scores = []
            for seed in range(DRAWS):
                rng = np.random.default_rng(seed)
                drawn = np.concatenate([rng.choice(np.flatnonzero(classes == one), numbers[one], replace=False) for one in (0, 1)])
                others = np.setdiff1d(np.arange(len(classes)), drawn)
                fits = [learnt(x[drawn], classes[drawn], method) for method in ("knn", "linear")]
                scores.append([score(fit, x[others], classes[others]) for fit in fits])
            knn, linear = np.mean(scores, 0)
            more = np.subtract(*np.transpose(scores))
            error = more.std(ddof=1) / len(more) ** 0.5
            print(f"{'+'.join(layers)} ({x.shape[1]}) {numbers}: knn {knn:.3f} linear {linear:.3f}, {more.mean():+.3f} ± {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
