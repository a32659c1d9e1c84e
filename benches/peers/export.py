"""Writes a network as ONNX, and its input as .npy beside it: python export.py MODEL TASK SIZE PATH"""
import sys
from pathlib import Path

import numpy as np
import torch

import networks

model, task, size, path = sys.argv[1:]
network = networks.build(model, task)
image = networks.image(network.channels, int(size))
np.save(Path(path).with_suffix(".npy"), image.numpy())
with torch.no_grad():
    torch.onnx.export(network, (image,), path, dynamo=task == "embedding" or network.head_kind == "simple",
                      external_data=False)
