"""The networks of the catalogue as PyTorch modules, made of the public package's parts, with synthetic weights.

Modules are nested so that `state_dict` has the names of the released checkpoints; the synthetic rule draws every tensor from
its name, so both sides have the same weights without sharing a file.
"""
import contextlib
import io
import json
import sys
from pathlib import Path

import torch
from satlaspretrain_models.models import FPN, FRCNNHead, ResnetBackbone, SimpleHead, SwinBackbone, Upsample

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/fixtures/zoo"))
import synthetic  # noqa: E402

SEED = 7
BACKBONES = {"swin_v2_b": (SwinBackbone, "swinb"), "swin_v2_t": (SwinBackbone, "swint"),
             "resnet50": (ResnetBackbone, "resnet50"), "resnet152": (ResnetBackbone, "resnet152")}


class Network(torch.nn.Module):
    """Backbone, and where a task is named also pyramid, decoder and that task's head. Takes and returns NCHW maps."""

    def __init__(self, model_id: str, task: str):
        super().__init__()
        zoo = json.loads((ROOT / "src/zoo/zoo.json").read_text())
        spec = next(spec for spec in zoo["pretrained"] if spec["id"] == model_id)
        kind, arch = BACKBONES[spec["backbone"]]
        self.channels = len(spec["bands"])
        self.backbone = kind(self.channels, arch)
        self.head_kind = None
        if task != "embedding":
            # The variant with the most heads is the one that synthetic weights get.
            heads = max((variant["heads"] for variant in spec["head_variants"]), key=len)
            head = next(head for head in heads if head["task"] == task)
            about = zoo["tasks"][task]
            self.head_kind = head["head"]
            fpn = FPN(self.backbone.out_channels)
            self.intermediates = torch.nn.ModuleList([fpn, Upsample(fpn.out_channels)])
            outputs = max(len(about.get("categories", [])), 1)
            classes = {"simple": SimpleHead, "frcnn": FRCNNHead}
            self.heads = torch.nn.ModuleDict({str(head["index"]): classes[self.head_kind](
                about["type"], fpn.out_channels, outputs)})

    def forward(self, image):
        maps = self.backbone(image)
        if self.head_kind is None:
            return tuple(maps)
        maps = self.intermediates[0](maps)
        [head] = self.heads.values()
        if self.head_kind == "frcnn":
            # Detection reads the pyramid alone, so nobody is made to pay for the decoder.
            found = head(list(image), maps)[0][0]
            return found["boxes"], found["scores"], found["labels"]
        return (head(None, self.intermediates[1](maps))[0],)


def build(model_id: str, task: str) -> Network:
    """The network in evaluation mode."""
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        network = Network(model_id, task)
        # Parameters that no forward pass reads have no part in memory or files either.
        for owner in network.modules():
            for name in ("fc", "norm", "head"):
                if owner in (getattr(network.backbone, "backbone", None), getattr(network.backbone, "resnet", None)):
                    if hasattr(owner, name):
                        setattr(owner, name, torch.nn.Identity())
        synthetic.fill(network.state_dict(), SEED)
    return network.eval()


def image(channels: int, size: int) -> torch.Tensor:
    """`[1, channels, size, size]`, uniform in [0, 1)."""
    values = synthetic.uniform("input", channels * size * size, SEED).astype("float32")
    return torch.from_numpy(values.reshape(1, channels, size, size))
