"""The server's half of the table: passes of each case with fused kernels and in plain operations, then tiles and a scene.

    python server_side.py BINARY OUTPUT.json [--seconds 170] [--device cuda] [--scene-side 10980] [--model ID]
"""
import argparse
import json
import math
import re
import struct
import subprocess
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cases import CASES, SIZE_PX, SWIN_B

TASK = "land_cover"
ZOOM, TILE_PX = 14, 256
# Half the side of Web Mercator's square, in metres.
EDGE_M = 20037508.342789244
PIXEL_M = 2 * EDGE_M / (TILE_PX << ZOOM)
# The tile at the scene's upper left corner, near the equator, where a pixel is 9.6 m wide on the ground.
FIRST_COL, FIRST_ROW = 8300, 8200
CLIENTS = 64
TILES_SECONDS, SCENE_SECONDS = 25, 60


def passes(options, case, plain, deadline):
    """Median milliseconds of a pass, and what was logged, or why there are none."""
    left = deadline - time.monotonic()
    if left < 5:
        return {"left_out": "no time left"}
    command = [options.binary, "bench", "--model", case.model, "--task", case.task, "--size", str(SIZE_PX), "--batch", str(case.batch),
               "--runs", "30", "--device", options.device, "--dtype", case.dtype, "--weights", "synthetic:7", "--log-level", "warn",
               f"--plain-ops={str(plain).lower()}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=min(left, 60))
    except subprocess.TimeoutExpired:
        return {"left_out": "too slow"}
    if done.returncode != 0:
        return {"left_out": done.stderr.strip()[-500:]}
    figures = json.loads(done.stdout)
    return {"ms": 1000 * figures["median_s"], "device": figures["device"], "warnings": done.stderr.strip()}


def write_scene(path, side):
    """A GeoTIFF of noise in three bands, in Web Mercator with the pixels of zoom 14. Speed does not depend on what it shows."""
    row = bytes((i * 7919 + i // 97 * 31) % 251 + 1 for i in range(3 * side))
    rows = 64
    strips = math.ceil(side / rows)
    counts = [3 * side * min(rows, side - rows * strip) for strip in range(strips)]
    left, top = FIRST_COL * TILE_PX * PIXEL_M - EDGE_M, EDGE_M - FIRST_ROW * TILE_PX * PIXEL_M
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 3857]
    # Tag, type (3: 16 bits, 4: 32 bits, 12: a double) and values; offsets of strips are filled in below.
    tags = [(256, 4, [side]), (257, 4, [side]), (258, 3, [8, 8, 8]), (259, 3, [1]), (262, 3, [2]), (273, 4, [0] * strips), (277, 3, [3]),
            (278, 4, [rows]), (279, 4, counts), (284, 3, [1]), (33550, 12, [PIXEL_M, PIXEL_M, 0.0]),
            (33922, 12, [0.0, 0.0, 0.0, left, top, 0.0]), (34735, 3, keys)]
    codes = {3: "H", 4: "I", 12: "d"}
    body_at = 8 + 2 + 12 * len(tags) + 4
    bodies = {tag: struct.calcsize(f"<{len(values)}{codes[kind]}") for tag, kind, values in tags}
    pixels_at = body_at + sum(size for size in bodies.values() if size > 4)
    offsets = [pixels_at + sum(counts[:strip]) for strip in range(strips)]
    directory, body = struct.pack("<H", len(tags)), b""
    for tag, kind, values in tags:
        packed = struct.pack(f"<{len(values)}{codes[kind]}", *(offsets if tag == 273 else values))
        inline = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", body_at + len(body))
        body += packed if len(packed) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, len(values)) + inline
    with open(path, "wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0" + body)
        for strip_row in range(side):
            turn = 3 * (strip_row * 37 % side)
            file.write(row[turn:] + row[:turn])


class Server:
    def __init__(self, options, scene, folder):
        command = [options.binary, "serve", "--port", "0", "--source", f"scene={scene}", "--weights", "synthetic:7",
                   "--device", options.device, "--data-dir", folder, "--no-demo", "--log-level", "error", "--queue", "4096"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1].rstrip("/")

    def get(self, path, body=None):
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read()

    def totals(self):
        """Seconds of forward passes, and images that went through them, since the start."""
        metrics = self.get("/metrics").decode()
        total = lambda name: sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.M)))
        return total("satlas_forward_seconds_sum"), total("satlas_batch_size_sum")


class Utilisation:
    """What nvidia-smi says of the GPU meanwhile: the mean share of time in which any kernel ran."""

    def __enter__(self):
        self.found = []
        try:
            self.process = subprocess.Popen(["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "250"],
                                            stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            self.process = None
            return self
        threading.Thread(target=lambda: self.found.extend(self.process.stdout), daemon=True).start()
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def share(self):
        numbers = [float(line) for line in self.found if line.strip().isdigit()]
        return sum(numbers) / len(numbers) / 100 if numbers else None


def measured(server, seconds_at_most, work):
    """Runs `work(deadline)` and says what the device did meanwhile."""
    busy, images = server.totals()
    started = time.monotonic()
    with Utilisation() as utilisation:
        count = work(started + seconds_at_most)
    spent = time.monotonic() - started
    busy_after, images_after = server.totals()
    return {"count": count, "seconds": spent, "windows": images_after - images, "forward_share": (busy_after - busy) / spent,
            "nvidia_smi_share": utilisation.share()}


def tiles(server, options, side):
    per_side = side // TILE_PX
    paths = [f"/v1/tiles/{options.model}/{TASK}/{ZOOM}/{FIRST_COL + place % per_side}/{FIRST_ROW + place // per_side}.png?source=scene"
             for place in range(per_side * per_side)]

    def work(deadline):
        ask = lambda path: time.monotonic() < deadline and len(server.get(path)) > 0
        with ThreadPoolExecutor(CLIENTS) as pool:
            return sum(pool.map(ask, paths))

    return measured(server, TILES_SECONDS, work)


def scene(server, options, side):
    def corner(col, row):
        x, y = (FIRST_COL * TILE_PX + col) * PIXEL_M - EDGE_M, EDGE_M - (FIRST_ROW * TILE_PX + row) * PIXEL_M
        return [180 * x / EDGE_M, math.degrees(math.atan(math.sinh(math.pi * y / EDGE_M)))]

    ring = [corner(col, row) for col, row in [(1, 1), (side - 1, 1), (side - 1, side - 1), (1, side - 1), (1, 1)]]

    def work(deadline):
        job = json.loads(server.get("/v1/jobs", {"model": options.model, "task": TASK, "source": "scene",
                                                 "geometry": {"type": "Polygon", "coordinates": [ring]}}))
        while time.monotonic() < deadline:
            state = json.loads(server.get(f"/v1/jobs/{job['id']}"))["state"]
            if state in ("done", "failed"):
                return state
            time.sleep(0.1)
        return "under way"

    return measured(server, SCENE_SECONDS, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scene-side", type=int, default=10980)
    parser.add_argument("--model", default=SWIN_B)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    found = {"passes": {}}
    # Tiles and the scene have a share of the time of their own.
    of_passes = deadline - min(TILES_SECONDS + SCENE_SECONDS + 20, options.seconds / 2)
    for plain in [False, True]:
        for case in CASES:
            found["passes"][f"{case.name()} {'plain' if plain else 'fused'}"] = passes(options, case, plain, of_passes)
            options.output.write_text(json.dumps(found, indent=1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        write_scene(path, options.scene_side)
        for what, run in [("tiles", tiles), ("scene", scene)]:
            # Each on a server of its own, without what the other has left in caches; one tile loads the model.
            server = Server(options, path, str(Path(folder) / what))
            try:
                server.get(f"/v1/tiles/{options.model}/{TASK}/{ZOOM}/{FIRST_COL}/{FIRST_ROW}.png?source=scene")
                found[what] = run(server, options, options.scene_side)
            except OSError as error:
                found[what] = {"left_out": str(error)}
            finally:
                server.process.terminate()
                server.process.wait()
            options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
