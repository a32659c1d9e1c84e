#!/usr/bin/env python3
"""Compiles fused.cu to fused.ptx, which the build with the feature `cuda` embeds.

    python3 -m pip install --target CUDA 'nvidia-cuda-nvcc==13.2.*' 'nvidia-cuda-runtime==13.2.*' 'nvidia-cuda-cccl==13.2.*' \\
        'nvidia-cuda-crt==13.2.*' 'nvidia-nvvm==13.2.*'
    CUDA_HOME=CUDA/nvidia/cu13 python3 src/kernels/cuda/make_ptx.py

`--check` compares the hash in fused.ptx with the sources and compiles nothing.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PTX = FOLDER / "fused.ptx"
HASH = "// sha256 of the sources: "

# The oldest generation of GPUs that is compiled for: the first with bfloat16 in its tensor cores. The driver compiles for newer ones.
ARCHITECTURE = "compute_80"
# nvcc writes the newest version of PTX, which only the newest drivers read. The kernels use nothing that this one, of CUDA 11.8, does not
# have: ptxas, which checks every instruction against the version in the file, assembles the result below.
PTX_VERSION = "7.8"
# Generations that the result is assembled for.
ASSEMBLED_FOR = ["sm_80", "sm_86", "sm_89", "sm_90"]


def source_hash() -> str:
    """Over names and contents of the sources; src/ops/fused/tests.rs computes the same."""
    digest = hashlib.sha256()
    for path in sorted([*FOLDER.glob("*.cu"), *FOLDER.glob("*.cuh")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def compile_ptx(home: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        raw, cubin = Path(folder) / "raw.ptx", Path(folder) / "fused.cubin"
        compiler = [home / "bin" / "nvcc", "-ptx", "-std=c++17", "-O3", f"-arch={ARCHITECTURE}", "-Werror", "all-warnings"]
        subprocess.run([*compiler, FOLDER / "fused.cu", "-o", raw], check=True)
        # The comments name the compiler's build, and blank lines are many.
        lines = [line for line in raw.read_text().splitlines() if line.strip() and not line.startswith("//")]
        text = re.sub(r"^\.version .*$", f".version {PTX_VERSION}", "\n".join(lines), flags=re.MULTILINE)
        text = f"{HASH}{source_hash()}\n// Made by make_ptx.py.\n{text}\n"
        raw.write_text(text)
        for generation in ASSEMBLED_FOR:
            print(f"ptxas for {generation}")
            subprocess.run([home / "bin" / "ptxas", "-v", f"-arch={generation}", raw, "-o", cubin], check=True)
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the hash in fused.ptx with the sources")
    if parser.parse_args().check:
        first = PTX.read_text().partition("\n")[0]
        if first != HASH + source_hash():
            sys.exit("fused.ptx was made from other sources: run make_ptx.py")
        return
    PTX.write_text(compile_ptx(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))))


if __name__ == "__main__":
    main()
