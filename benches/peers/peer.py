"""One runtime with one network in a process of its own, speaking the protocol of `satlas-serve bench --paced`.

    python peer.py RUNTIME MODEL TASK DTYPE WORK_DIR [SIZE]

RUNTIME is eager, compiled, onnxruntime or openvino. `ready` is printed once warm; each line `run` on stdin is a pass, answered
with its seconds; `save PATH` writes the answer of a pass as an .npz; the end of stdin is answered with the peak memory.
"""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

runtime, model, task, dtype, work, *rest = sys.argv[1:]
size = int(rest[0]) if rest else 512
threads = os.cpu_count()
stem = Path(work) / f"{model}.{task}.{size}"


def torch_runner():
    import torch

    import networks

    torch.set_num_threads(threads)
    network = networks.build(model, task)
    image = networks.image(network.channels, size)
    if runtime == "compiled":
        network = torch.compile(network)

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            return network(image)

    return run, lambda answer: [part.float().numpy() for part in answer]


def exported() -> Path:
    """The ONNX file and the input beside it, made at first use in another process, whose memory is not this one's."""
    path = stem.with_suffix(stem.suffix + ".onnx")
    if not path.exists():
        import subprocess

        subprocess.run([sys.executable, Path(__file__).with_name("export.py"), model, task, str(size), path], check=True,
                       stdout=sys.stderr)
    return path


def onnxruntime_runner():
    import onnxruntime

    path = exported()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.load(path.with_suffix(".npy"))}
    return lambda: session.run(None, feed), list


def openvino_runner():
    import openvino

    path = exported()
    compiled = openvino.Core().compile_model(path, "CPU", {
        "INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.load(path.with_suffix(".npy"))))

    def run():
        request.infer()
        return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]

    return run, lambda answer: [part.copy() for part in answer]


def peak_rss_bytes() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


run, arrays = {"eager": torch_runner, "compiled": torch_runner, "onnxruntime": onnxruntime_runner,
               "openvino": openvino_runner}[runtime]()
for _ in range(2):
    run()
print("ready", flush=True)
for line in sys.stdin:
    command, *argument = line.split(maxsplit=1)
    if command == "save":
        np.savez(argument[0].strip(), *arrays(run()))
        print("saved", flush=True)
    else:
        started = time.perf_counter()
        run()
        print(time.perf_counter() - started, flush=True)
print(json.dumps({"peak_rss_bytes": peak_rss_bytes()}), flush=True)
