"""Fits of the labels that `cargo bench --bench fit -- 1 FOLDER` has written, with scikit-learn: the same folds, penalties and scalings.

    python benches/peers/fit.py FOLDER [runs]        (scikit-learn 1.9.1, numpy)

The server's fit also makes a learning curve, by fits to fewer folds with the chosen penalty; `--curve` makes it here, too. Penalties go from
the strongest to the weakest, each beginning where the one before has ended (`warm_start`).
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

LABELS, CHANNELS, FOLDS = 10_000, 1024, 5
PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2]
ALPHAS = [1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2]


def chosen(x, y, fold_of, penalties, learn, loss):
    """The penalty under which what is said of held-out labels is best."""
    given = [[None] * len(y) for _ in penalties]
    for fold in range(FOLDS):
        out = fold_of == fold
        scaler = StandardScaler().fit(x[~out])
        seen, held = scaler.transform(x[~out]), scaler.transform(x[out])
        for penalty, said in enumerate(learn(seen, y[~out], held, penalties)):
            for label, value in zip(np.flatnonzero(out), said):
                given[penalty][label] = value
    losses = [loss(np.array(said)) for said in given]
    return penalties[int(np.argmin(losses))]


def curve(x, y, fold_of, penalty, learn):
    """Fits to one, two … of the folds after each, with one penalty."""
    for parts in range(1, FOLDS - 1):
        for fold in range(FOLDS):
            behind = (fold_of - fold) % FOLDS
            seen, out = (behind >= 1) & (behind <= parts), behind == 0
            scaler = StandardScaler().fit(x[seen])
            list(learn(scaler.transform(x[seen]), y[seen], scaler.transform(x[out]), [penalty]))


def ridge(x, y, fold_of, args):
    def learn(seen, values, held, alphas):
        for alpha in alphas:
            yield Ridge(alpha=alpha).fit(seen, values).predict(held)

    alpha = chosen(x, y, fold_of, ALPHAS, learn, lambda said: np.mean((said - y) ** 2))
    if args.curve:
        curve(x, y, fold_of, alpha, learn)
    fitted = Ridge(alpha=alpha).fit(StandardScaler().fit_transform(x), y)
    return f"Alpha({alpha})", np.abs(fitted.coef_ / x.std(0)).sum()


def logistic(x, y, fold_of, args):
    def model(c):
        return LogisticRegression(C=c, class_weight="balanced", tol=args.tol, max_iter=args.max_iter, warm_start=True)

    def learn(seen, classes, held, penalties):
        fitted = model(penalties[0])
        for c in penalties:
            fitted.set_params(C=c).fit(seen, classes)
            yield fitted.predict_proba(held)

    weights = compute_sample_weight("balanced", y)
    c = chosen(x, y, fold_of, PENALTIES, learn, lambda said: log_loss(y, said, sample_weight=weights))
    if args.curve:
        curve(x, y, fold_of, c, learn)
    fitted = model(c).fit(StandardScaler().fit_transform(x), y)
    return f"C({c})", np.abs(fitted.coef_ / x.std(0)).sum()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("runs", type=int, nargs="?", default=3)
    parser.add_argument("--tol", type=float, default=1e-4, help="scikit-learn's own by default")
    parser.add_argument("--max-iter", type=int, default=10_000)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--only", choices=["ridge", "logistic"])
    args = parser.parse_args()
    warnings.simplefilter("error", ConvergenceWarning)
    # As somebody would who has the features as float64, which is what scikit-learn computes in.
    x = np.fromfile(args.folder / "features.f32", np.float32).reshape(LABELS, CHANNELS).astype(np.float64)
    fold_of = np.arange(LABELS) % FOLDS
    for name, fit, file, kind in [("ridge", ridge, "values.f64", np.float64), ("logistic", logistic, "classes.u64", np.uint64)]:
        if args.only not in (None, name):
            continue
        y = np.fromfile(args.folder / file, kind)
        for _ in range(args.runs):
            start, processor = time.perf_counter(), time.process_time()
            penalty, size = fit(x, y.astype(np.int64) if kind == np.uint64 else y, fold_of, args)
            seconds = time.perf_counter() - start
            print(f"{name:10} {seconds:8.2f} s   processor {time.process_time() - processor:8.2f} s   {penalty}, sum of magnitudes {size:.6f}", flush=True)


if __name__ == "__main__":
    main()
