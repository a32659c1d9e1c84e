"""An area job beside a loop of rasterio, torch and the public package, over the same file with the same network:

    benches/peers/run.sh --only none                        # makes the Python environment
    target/peers/venv/bin/pip install rasterio
    target/peers/venv/bin/python benches/areas.py target/release/satlas-serve [SIDE] [--window=1024]

The file has SIDE x SIDE pixels (4096 by default), is read from the disk and from a host on this machine that answers after 50 ms.
Prints seconds per megapixel, and the share of the time in which the device was busy. `--no-loop` leaves the loop out; other options are passed to the server.
"""

import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform
from rasterio.windows import Window

ARGUMENTS = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
BINARY = os.path.abspath(ARGUMENTS[0])
SIDE = int(ARGUMENTS[1]) if len(ARGUMENTS) > 1 else 4096
SERVER_OPTIONS = [option for option in sys.argv[1:] if option.startswith("--") and option != "--no-loop"]
MODEL, TASK = "Sentinel2_SwinT_SI_RGB", "land_cover"
# What the server's windows have, if it is given no options: 512 px, and 64 more on each side for context.
CORE, HALO = 512, 64
LATENCY_S = 0.05


def write_image(path):
    """A cloud-optimised file that compresses like imagery: smooth shapes with noise."""
    rng = np.random.default_rng(7)
    rough = rng.normal(0, 1, (3, SIDE // 64 + 2, SIDE // 64 + 2))
    at = np.linspace(0, SIDE // 64, SIDE)
    low, part = at.astype(int), at - at.astype(int)
    rows = rough[:, low] * (1 - part)[None, :, None] + rough[:, low + 1] * part[None, :, None]
    smooth = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    values = np.clip(90 + 40 * smooth + rng.normal(0, 4, smooth.shape), 1, 255).astype("uint8")
    profile = {"driver": "COG", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8", "compress": "deflate", "blocksize": 512,
               "crs": CRS.from_epsg(32631), "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        for band, name in enumerate("rgb", 1):
            file.set_band_description(band, {"r": "red", "g": "green", "b": "blue"}[name])
        bounds = file.bounds
    return outline(bounds.left + 5, bounds.top - 5, SIDE * 10 - 10)


def outline(left, top, length):
    """A square of the file as GeoJSON; its sides are curves in longitude and latitude, so they have many corners."""
    steps = [(0, at / 16) for at in range(16)], [(at / 16, 1) for at in range(16)], [(1, 1 - at / 16) for at in range(16)], [(1 - at / 16, 0) for at in range(17)]
    corners = [(left + x * length, top - y * length) for side in steps for x, y in side]
    xs, ys = zip(*corners)
    return {"type": "Polygon", "coordinates": [list(map(list, zip(*transform(CRS.from_epsg(32631), "EPSG:4326", xs, ys))))]}


class SlowHost(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = 0

    def do_GET(self):
        time.sleep(LATENCY_S)
        SlowHost.requests += 1
        content = self.server.content
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(found[1]), min(int(found[2]), len(content) - 1)) if found else (0, len(content) - 1)
        self.send_response(206 if found else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(content[first:last + 1])

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


def get(url, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def forward_seconds(server):
    return sum(map(float, re.findall(r"^satlas_forward_seconds_sum(?:{.*})? (\S+)$", get(f"{server}/metrics").decode(), re.M)))


def serve_job(source, area, folder):
    """Seconds of an area job, and of these the seconds of forward passes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    command = [BINARY, "serve", "--port", str(port), "--source", f"file={source}", "--weights", "synthetic:7", "--dtype", "f32",
               "--data-dir", folder, "--allow-host", "127.0.0.1", "--allow-private-hosts", "--log-level", "error", *SERVER_OPTIONS]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                get(f"{server}/health/ready")
                break
            except OSError:
                time.sleep(0.1)
        # The model is loaded and warm; of the file, another part has been looked at than is measured.
        wait(server, {"model": MODEL, "task": TASK, "source": "file", "geometry": outline(500000 + 5, 5000000 - 5, 1000)})
        busy, started = forward_seconds(server), time.monotonic()
        wait(server, {"model": MODEL, "task": TASK, "source": "file", "geometry": area})
        spent = time.monotonic() - started
        return spent, forward_seconds(server) - busy
    finally:
        process.terminate()
        process.wait()


def wait(server, job):
    created = json.loads(get(f"{server}/v1/jobs", job))
    while True:
        state = json.loads(get(f"{server}/v1/jobs/{created['id']}"))
        if state["state"] in ("done", "failed"):
            assert state["state"] == "done", state
            return
        time.sleep(0.05)


def loop(source, output):
    """What one would write with rasterio, torch and the public package; windows have the same context."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
    import networks
    import torch

    torch.set_num_threads(os.cpu_count())
    network = networks.build(MODEL, TASK)
    with torch.inference_mode():
        network(torch.zeros(1, 3, CORE + 2 * HALO, CORE + 2 * HALO))
    started = time.monotonic()
    with rasterio.open(source) as file, torch.inference_mode():
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8", "compress": "deflate", "tiled": True,
                   "blockxsize": 512, "blockysize": 512, "crs": file.crs, "transform": file.transform}
        with rasterio.open(output, "w", **profile) as result:
            for row in range(0, SIDE, CORE):
                for column in range(0, SIDE, CORE):
                    part = Window(column - HALO, row - HALO, CORE + 2 * HALO, CORE + 2 * HALO)
                    values = file.read(window=part, boundless=True, fill_value=0)
                    image = torch.from_numpy(values).float().div_(255)[None]
                    (answer,) = network(image)
                    classes = answer[0].argmax(0)[HALO:-HALO, HALO:-HALO].to(torch.uint8).numpy()
                    result.write(classes, 1, window=Window(column, row, CORE, CORE))
    return time.monotonic() - started


def main():
    megapixels = SIDE * SIDE / 1e6
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        image = folder / "image.tif"
        area = write_image(image)
        host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowHost)
        host.content = image.read_bytes()
        threading.Thread(target=host.serve_forever, daemon=True).start()
        places = {"a local file": str(image), f"a host {LATENCY_S * 1000:.0f} ms away": f"http://127.0.0.1:{host.server_port}/image.tif"}
        for number, (name, place) in enumerate(places.items()):
            spent, busy = serve_job(place, area, str(folder / f"data{number}"))
            print(f"{name}: {spent:.1f} s, {spent / megapixels:.3f} s per megapixel, device busy {busy / spent:.2f} of the time", flush=True)
        print(f"requests to the host: {SlowHost.requests}")
        if "--no-loop" not in sys.argv:
            spent = loop(image, folder / "loop.tif")
            print(f"the loop: {spent:.1f} s, {spent / megapixels:.3f} s per megapixel")


main()
