"""The same networks in PyTorch, ONNX Runtime and OpenVINO, side by side with satlas-serve on the same cores.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    cargo build --release
    venv/bin/python bench_peers.py --binary ../../target/release/satlas-serve [--runs 9] [--only swin_v2_b] [--bf16]

Every peer gets the backbone (task `embedding`) and the backbone with pyramid, decoder and 12-class segment head (task
`land_cover`), with weights by the synthetic rule (seed 7), which satlas-serve builds for itself. The peers' answers must
agree before anything is timed. Rounds are interleaved, so that a busy machine disturbs all alike; the table gives medians
and our time over that of the fastest peer. Comparisons between ours and theirs are made by the parity tests.
"""
import argparse
import json
import math
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

SEED = 7
ARCHITECTURES = {
    "swin_v2_t": ("Sentinel2_SwinT_SI_RGB", [96, 192, 384, 768]),
    "swin_v2_b": ("Sentinel2_SwinB_SI_RGB", [128, 256, 512, 1024]),
    "resnet50": ("Sentinel2_Resnet50_SI_RGB", [256, 512, 1024, 2048]),
    "resnet152": ("Sentinel2_Resnet152_SI_RGB", [256, 512, 1024, 2048]),
}


def uniform(name, count):
    """splitmix64 over the FNV-1a hash of the name, as numbers in [0, 1)."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(key ^ SEED) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def fill(module):
    """Every parameter by the synthetic rule, under the module's own names."""
    for name, tensor in module.state_dict().items():
        if name.endswith(("relative_position_index", "relative_coords_table", "num_batches_tracked")):
            continue
        v = 2 * uniform(name, tensor.numel()) - 1
        if name.endswith("running_mean"):
            values = 0.1 * v
        elif name.endswith("running_var"):
            values = 1 + 0.2 * v
        elif name.endswith("logit_scale"):
            values = math.log(10) + 0.1 * v
        elif name.endswith("bias"):
            values = 0.05 * v
        elif tensor.dim() == 1:
            values = (0.2 if ".bn3." in name else 1.0) * (1 + 0.1 * v)
        else:
            gain = 0.35 if "fpn." in name else 1.0
            values = gain * v * math.sqrt(6 / math.prod(tensor.shape[1:]))
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape))


class Backbone(nn.Module):
    """The four maps of a torchvision backbone."""

    def __init__(self, name):
        super().__init__()
        self.swin = name.startswith("swin")
        self.backbone = getattr(torchvision.models, name)(weights=None)

    def forward(self, x):
        if self.swin:
            maps = []
            for layer in self.backbone.features:
                x = layer(x)
                maps.append(x.permute(0, 3, 1, 2))
            return maps[1], maps[3], maps[5], maps[7]
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        maps = []
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = layer(x)
            maps.append(x)
        return tuple(maps)


class Segment(nn.Module):
    """Backbone, pyramid, decoder to full resolution and a head of 12 classes."""

    def __init__(self, name, channels):
        super().__init__()
        self.maps = Backbone(name)
        self.fpn = FeaturePyramidNetwork(channels, 128)
        layers = []
        for _ in range(2):
            layers += [nn.Conv2d(128, 128, 3, padding=1), nn.ReLU()]
            layers += [nn.ConvTranspose2d(128, 128, 4, stride=2, padding=1), nn.ReLU()]
        self.upsample = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 12, 3, padding=1))

    def forward(self, x):
        maps = self.fpn({str(i): m for i, m in enumerate(self.maps(x))})
        return torch.softmax(self.head(self.upsample(maps["0"])), dim=1)


def peers(module, image, folder, bf16):
    """Name -> (type, a function that runs the network once and returns its last output)."""
    import onnxruntime
    import openvino

    last = lambda out: (out[-1] if isinstance(out, (tuple, list)) else out).float().numpy()

    def torch_run(network, autocast=False):
        def run():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return last(network(image))
        return run

    found = {"PyTorch": ("f32", torch_run(module)), "PyTorch compiled": ("f32", torch_run(torch.compile(module)))}
    path = folder / "network.onnx"
    torch.onnx.export(module, (image,), path, dynamo=True, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image.numpy()}
    found["ONNX Runtime"] = ("f32", lambda: session.run(None, feed)[-1])
    core = openvino.Core()
    model = core.read_model(path)
    for kind in ["f32", "bf16"] if bf16 else ["f32"]:
        settings = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        def run(request=request):
            results = request.infer([image.numpy()])
            return list(results.values())[-1]
        found[f"OpenVINO {kind}"] = (kind, run)
    return found


def ours(args, model, task, kind):
    """One process of satlas-serve: its median over `--runs` after a warm-up of its own."""
    command = [args.binary, "bench", "--model", model, "--task", task, "--size", str(args.size), "--images", "1",
               "--runs", "3", "--dtype", kind, "--weights", f"synthetic:{SEED}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["median_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="")
    parser.add_argument("--bf16", action="store_true", help="also OpenVINO and satlas-serve in bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    values = uniform("input", 3 * args.size**2).astype(np.float32)
    image = torch.from_numpy(values.reshape(1, 3, args.size, args.size))
    print("| network | type | " + "satlas-serve | fastest peer | ratio | all peers |\n| --- | --- | --- | --- | --- | --- |")
    for name, (model, channels) in ARCHITECTURES.items():
        for task, module in (("embedding", Backbone(name)), ("land_cover", Segment(name, channels))):
            if args.only not in f"{name} {task}":
                continue
            with torch.no_grad():
                fill(module)
            module.eval()
            with tempfile.TemporaryDirectory() as folder:
                found = peers(module, image, Path(folder), args.bf16)
                reference = found["PyTorch"][1]()
                for peer, (kind, run) in found.items():
                    gap = np.abs(run() - reference).mean() / np.abs(reference).mean()
                    if gap > (3e-2 if kind == "bf16" else 1e-3):
                        raise SystemExit(f"{name} {task}: {peer} is {gap:.1e} of the mean magnitude away from PyTorch")
                kinds = ["f32", "bf16"] if args.bf16 else ["f32"]
                times = {peer: [] for peer in found} | {kind: [] for kind in kinds}
                for _ in range(args.runs):
                    for peer, (_, run) in found.items():
                        start = time.perf_counter()
                        run()
                        times[peer].append(time.perf_counter() - start)
                    for kind in kinds:
                        times[kind].append(ours(args, model, task, kind))
            for kind in kinds:
                medians = {p: statistics.median(times[p]) for p, (of, _) in found.items() if of == kind}
                best = min(medians, key=medians.get)
                mine = statistics.median(times[kind])
                everyone = ", ".join(f"{p} {t:.3f} s" for p, t in medians.items())
                print(f"| {name} {task} | {kind} | {mine:.3f} s | {best} {medians[best]:.3f} s "
                      f"| {mine / medians[best]:.2f} | {everyone} |", flush=True)


if __name__ == "__main__":
    main()
