"""Prints the table from what server_side.py and torch_side.py wrote: python table.py SERVER.json TORCH.json"""
import json
import sys
from pathlib import Path

from cases import CASES, WANTED


def read(path):
    return json.loads(Path(path).read_text()) if Path(path).exists() else {"passes": {}}


server, torch = read(sys.argv[1]), read(sys.argv[2])
results = server["passes"] | torch["passes"]
FORMS = ["fused", "plain", "eager", "compiled"]

print("Milliseconds per pass, 512 x 512 px, synthetic weights, medians of 30.\n")
print("| case, images per pass | fused | plain | eager | compiled | wanted |")
print("| --- | --- | --- | --- | --- | --- |")
for case in CASES:
    ms = {form: results.get(f"{case.name()} {form}", {}).get("ms") for form in FORMS}
    most_ms, most_share, of = WANTED.get(case, (None, None, None))
    wanted = []
    if most_ms:
        wanted.append(f"{most_ms} ms")
    if most_share:
        wanted.append(f"{most_share} of {of}" + (f" (is {ms['fused'] / ms[of]:.2f})" if ms["fused"] and ms[of] else ""))
    cells = ["-" if ms[form] is None else f"{ms[form]:.1f}" for form in FORMS]
    print(f"| {case.name()} | {' | '.join(cells)} | {', '.join(wanted) or '-'} |")

print()
for what in ["tiles", "scene"]:
    of = server.get(what, {"left_out": "not measured"})
    if "left_out" in of:
        print(f"{what}: {of['left_out']}")
        continue
    rate = f"{of['count'] / of['seconds']:.0f} tiles a second, " if what == "tiles" else f"{of['count']}, "
    smi = of["nvidia_smi_share"]
    print(f"{what}: {rate}{of['windows'] / of['seconds']:.1f} windows a second; forward passes {of['forward_share']:.2f} of the time"
          + (f", kernels {smi:.2f} (nvidia-smi)" if smi is not None else ""))

print()
for name, of in results.items():
    for key in ["left_out", "warnings"]:
        if of.get(key):
            print(f"{name}: {of[key]}")
devices = {of["device"] for of in results.values() if "device" in of}
print(f"device: {', '.join(sorted(devices)) or 'none'}; torch {torch.get('torch', '-')}")
