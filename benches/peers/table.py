"""Prints target/peers/results.jsonl as a Markdown table; of equal cases the newest counts."""
import json
import os
from pathlib import Path

rows = {}
for line in (Path(__file__).resolve().parents[2] / "target/peers/results.jsonl").read_text().splitlines():
    row = json.loads(line)
    rows[row["model"], row["task"], row["dtype"]] = row

names = ["eager", "compiled", "onnxruntime", "openvino"]
print(f"Seconds a pass, and in brackets ours / theirs (median of the rounds); {os.cpu_count()} cores.\n")
print("| model | task | dtype | ours | " + " | ".join(names) + " | peak memory, ours / eager |")
print("| --- " * (len(names) + 5) + "|")
for (model, task, dtype), row in rows.items():
    cells = []
    for name in names:
        peer = row["peers"].get(name, {})
        cells.append(f"{peer['median_s']:.3f} ({peer['ratio']:.2f})" if "ratio" in peer else "-")
    eager = row["peers"].get("eager", {}).get("peak_rss_bytes")
    memory = f"{row['ours']['peak_rss_bytes'] / eager:.2f}" if eager else "-"
    print(f"| {model} | {task} | {dtype} | {row['ours']['median_s']:.3f} | " + " | ".join(cells) + f" | {memory} |")
