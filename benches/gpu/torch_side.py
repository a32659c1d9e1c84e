"""PyTorch's half of the table: eager for every case, then torch.compile for some, TF32 off, bf16 by autocast.

    python torch_side.py OUTPUT.json [--seconds 250] [--device cuda]        needs benches/peers/requirements.txt
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from cases import CASES, COMPILED, SIZE_PX

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import networks  # noqa: E402

RUNS = 30
# A compilation that would begin later than this before the end is left out.
COMPILE_SECONDS = 70


def passes(network, case, device):
    """Median milliseconds of a pass."""
    image = networks.image(network.channels, SIZE_PX).repeat(case.batch, 1, 1, 1).to(device)

    def run():
        started = time.perf_counter()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bf16"):
            answer = network(image)
        # What `satlas-serve bench` copies: one number of the last map, or the whole of a head's answer.
        if case.task == "embedding":
            answer[-1].float().sum().item()
        else:
            [part.float().cpu() for part in answer]
        return time.perf_counter() - started

    for _ in range(3):
        run()
    return 1000 * statistics.median(run() for _ in range(RUNS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=250)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    found = {"torch": torch.__version__, "passes": {}}
    for form, cases, needed in [("eager", CASES, 5), ("compiled", COMPILED, COMPILE_SECONDS)]:
        for case in cases:
            name = f"{case.name()} {form}"
            if deadline - time.monotonic() < needed:
                found["passes"][name] = {"left_out": "no time left"}
                continue
            try:
                network = networks.build(case.model, case.task).to(options.device)
                network = torch.compile(network) if form == "compiled" else network
                found["passes"][name] = {"ms": passes(network, case, options.device)}
            except Exception as error:  # noqa: BLE001: one case that fails must not end the others
                found["passes"][name] = {"left_out": f"{type(error).__name__}: {error}"[:500]}
            options.output.write_text(json.dumps(found, indent=1))
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
