"""What is measured on a GPU, the most important first: where the time runs out, the rest is left out and said to be."""
from typing import NamedTuple

SWIN_B, SWIN_T, RESNET = "Sentinel2_SwinB_SI_RGB", "Sentinel2_SwinT_SI_RGB", "Sentinel2_Resnet50_SI_RGB"
SIZE_PX = 512


class Case(NamedTuple):
    model: str
    task: str
    dtype: str
    batch: int

    def name(self) -> str:
        return " ".join([self.model, "backbone" if self.task == "embedding" else self.task, self.dtype, str(self.batch)])


CASES = [
    Case(SWIN_B, "embedding", "bf16", 8),
    Case(SWIN_B, "land_cover", "bf16", 8),
    Case(SWIN_B, "embedding", "bf16", 1),
    Case(SWIN_B, "embedding", "f32", 8),
    Case(SWIN_B, "embedding", "f32", 1),
    Case(SWIN_T, "embedding", "bf16", 8),
    Case(RESNET, "embedding", "bf16", 8),
    Case(SWIN_B, "land_cover", "f32", 8),
    Case(SWIN_T, "land_cover", "bf16", 8),
]
# These are measured with torch.compile too, which takes about a minute each to compile.
COMPILED = CASES[:3]
# Most milliseconds, and the most of torch.compile's time (None: of eager PyTorch's), that a case should take.
WANTED = {CASES[0]: (13, 1.0, "compiled"), CASES[1]: (25, 0.8, "compiled"), CASES[2]: (4, None, None), CASES[3]: (None, 1.0, "eager")}
