"""The server's networks side by side with PyTorch, ONNX Runtime and OpenVINO on this machine's processor.

    benches/peers/run.sh [--quick] [--only REGEX] [--peers NAME,…] [--rounds N] [--cap SECONDS]

Every contestant is a warm process with the same synthetic weights and the same input on all cores. Their answers are compared
first; then they take turns, one pass each a round, and the table shows medians over the rounds of ours / theirs. Results are
added to target/peers/results.jsonl; `table.py` prints them.
"""
import argparse
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target/peers"
SERVE = os.environ.get("SATLAS_SERVE_BIN", str(ROOT / "target/release/satlas-serve"))
MODELS = ["Sentinel2_SwinT_SI_RGB", "Sentinel2_Resnet50_SI_RGB", "Sentinel2_SwinB_SI_RGB", "Sentinel2_Resnet152_SI_RGB"]
TASKS = ["embedding", "land_cover", "point"]
PEERS = {"f32": ["eager", "compiled", "onnxruntime", "openvino"], "bf16": ["eager", "openvino"]}
# Largest difference over the mean magnitude in f32, mean difference in bf16.
TOLERANCE = {"f32": 2e-4, "bf16": 3e-2}
# Thread pools of some runtimes spin for a while after a pass; nobody shall pay for another's.
PAUSE_S = 0.3


class Contestant:
    """A process that runs a pass for each line it gets."""

    def __init__(self, command, cap_s):
        self.errors = tempfile.TemporaryFile("w+")
        # Unbuffered: a line that a buffer has swallowed would not wake `select`.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0)
        self.unread = b""
        try:
            self.expect("ready", cap_s)
        except RuntimeError:
            self.process.kill()
            self.process.wait()
            raise

    def line(self, cap_s=120):
        end = time.monotonic() + cap_s
        while b"\n" not in self.unread:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise RuntimeError(f"no answer within {cap_s} s")
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                self.errors.seek(0)
                said = self.errors.read().strip().splitlines()
                raise RuntimeError(said[-1] if said else "ended")
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode().strip()

    def expect(self, word, cap_s=120):
        while self.line(cap_s) != word:
            pass

    def send(self, text):
        self.process.stdin.write(f"{text}\n".encode())

    def run(self):
        self.send("run")
        return float(self.line())

    def save(self, path):
        self.send(f"save {path}")
        self.expect("saved")
        with np.load(path) as file:
            return [file[name] for name in file.files]

    def close(self):
        """The peak memory of the process in bytes."""
        self.process.stdin.close()
        rest = self.unread + self.process.stdout.read()
        self.process.wait()
        return json.loads(rest)["peak_rss_bytes"]


def our_answer(model, task, dtype, image, folder):
    """What `satlas-serve predict` says about the image, in the peers' order."""
    path = Path(folder) / "ours.safetensors"
    if task == "land_cover":
        path = path.with_suffix(".npy")
    command = [SERVE, "predict", "--weights", "synthetic:7", "--dtype", dtype, "--model", model, "--task", task,
               "--input", image, "--output", path]
    if task == "embedding":
        command += ["--layer", "all", "--pool", "none"]
    subprocess.run(command, check=True)
    if task == "land_cover":
        return [np.load(path)]
    found = load_file(path)
    names = [f"backbone.{i}" for i in range(4)] if task == "embedding" else ["boxes", "scores", "labels"]
    return [found[name] for name in names]


def matched(ours, theirs):
    """Share of their detections that are among ours: same label, IoU above 0.98, score within 1e-3."""
    boxes, scores, labels = ours
    hits = 0
    for box, score, label in zip(*theirs):
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - shared
        hits += bool(np.any((shared / union > 0.98) & (labels == label) & (np.abs(scores - score) < 1e-3)))
    return hits / max(len(theirs[1]), len(scores), 1)


def gap(ours, theirs, dtype):
    """The worst difference of any map: largest (f32) or mean (bf16), over the mean magnitude."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        b = b.reshape(a.shape)
        difference = np.abs(a - b)
        worst = max(worst, float((difference.max() if dtype == "f32" else difference.mean()) / np.abs(b).mean()))
    return worst


def compare(model, task, dtype, names, rounds, cap_s):
    """One row of the table, against the peers of those names."""
    ours = Contestant([SERVE, "bench", "--paced", "--weights", "synthetic:7", "--dtype", dtype, "--model", model, "--task", task,
                       "--size", "512"], cap_s)
    peers, row = {}, {"model": model, "task": task, "dtype": dtype, "peers": {}}
    with tempfile.TemporaryDirectory() as folder:
        answer = None
        for name in names:
            try:
                peers[name] = Contestant([sys.executable, HERE / "peer.py", name, model, task, dtype, WORK], cap_s)
                theirs = peers[name].save(f"{folder}/{name}.npz")
            except RuntimeError as error:
                peers.pop(name, None)
                row["peers"][name] = {"left_out": str(error)[:200]}
                continue
            if answer is None:
                image = Path(folder) / "image.npy"
                subprocess.run([sys.executable, "-c", f"import networks, numpy; numpy.save({str(image)!r}, networks.image(3, 512)[0])"],
                               check=True, cwd=HERE)
                answer = our_answer(model, task, dtype, image, folder)
            if task == "point":
                figure, agrees = {"matched": matched(answer, theirs)}, matched(answer, theirs) >= 0.99
            else:
                figure, agrees = {"gap": gap(answer, theirs, dtype)}, gap(answer, theirs, dtype) <= TOLERANCE[dtype]
            row["peers"][name] = figure | {"agrees": agrees}
            if not agrees:
                # In bf16 both sides round, so this is told and not fatal.
                print(f"{model} {task} {dtype}: {name} and ours do not agree: {figure}", file=sys.stderr)
                if dtype == "f32":
                    raise SystemExit(1)
    seconds = {name: [] for name in ["ours", *peers]}
    for _ in range(rounds):
        for name, contestant in [("ours", ours), *peers.items()]:
            time.sleep(PAUSE_S)
            seconds[name].append(contestant.run())
    row["ours"] = {"median_s": statistics.median(seconds["ours"]), "peak_rss_bytes": ours.close()}
    for name, contestant in peers.items():
        ratios = [a / b for a, b in zip(seconds["ours"], seconds[name])]
        row["peers"][name] |= {"median_s": statistics.median(seconds[name]), "ratio": statistics.median(ratios),
                               "peak_rss_bytes": contestant.close()}
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="two small models, three rounds, to check the script itself")
    parser.add_argument("--only", default="", help="regular expression that 'MODEL TASK DTYPE' must match")
    parser.add_argument("--peers", default="eager,compiled,onnxruntime,openvino", help="which of them, with commas between")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cap", type=int, default=600, help="seconds a contestant may take to be ready")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    rounds = 3 if options.quick else options.rounds
    for dtype in PEERS:
        for model in MODELS[:2] if options.quick else MODELS:
            for task in TASKS:
                if re.search(options.only, f"{model} {task} {dtype}"):
                    names = [name for name in PEERS[dtype] if name in options.peers.split(",")]
                    row = compare(model, task, dtype, names, rounds, options.cap)
                    with open(WORK / "results.jsonl", "a") as results:
                        results.write(json.dumps(row) + "\n")
    subprocess.run([sys.executable, HERE / "table.py"], check=True)


main()
