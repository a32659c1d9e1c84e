#!/usr/bin/env python3
"""Sends mutated requests over every operation of openapi/openapi.json to a server of its own, and counts the answers.

    benches/attack/fuzz.py [REQUESTS [SEED]]

Paths, queries, headers and bodies are sound ones with a few faults each; files come from the demo bundle and tests/fixtures. Each
client's requests follow from the seed. Prints answers by operation and status, and as findings every server error that is no
refusal of overload, every answer that took longer than ten seconds, every connection that ended without an answer, every panic in
the log, and a peak of memory beyond the budgets that the server was started with and a forward pass. The bytes of findings are kept in a folder.
"""

import collections
import glob
import http.client
import io
import json
import os
import random
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from urllib.parse import quote

from server import ROOT, Server

CLIENTS = 4
LATEST_S = 10.0
BUDGETS_MIB = {
    "request-memory": 512, "model-memory": 512, "source-memory": 64, "feature-memory": 64, "answer-memory": 64,
    "tile-memory": 32, "chunk-memory": 64, "remote-memory": 32,
}
# The program itself, and what a forward pass of the largest model here has in memory, which no option limits.
BEYOND_MIB = 448
MOST_MIB = sum(BUDGETS_MIB.values()) + BEYOND_MIB
OPTIONS = [word for name, size in BUDGETS_MIB.items() for word in ("--" + name, "%dMiB" % size)] + \
    ["--request-timeout", "10s", "--max-pixels", "4194304", "--job-storage", "256MiB", "--queue", "64"]

ODD_TEXTS = [
    "", " ", "0", "-1", "1", "2", "255", "4096", "65536", "2147483648", "18446744073709551616", "9" * 400, "1e308", "-1e-400",
    "nan", "NaN", "inf", "-inf", "0x10", "1.5", "true", "null", "none", "all", ",", ",,", "1,", "1,1", "1,2,3,4,5,6,7,8,9",
    "../../etc/passwd", "..", ".", "/", "//", "%00", "%2e%2e%2f", "a" * 5000, "a,b" * 2000, "\u00e4\u2603\U0001f30d", "'\"<script>",
    "{}", "[]", "[" * 200, "$(id)", "\r\nX-Odd: 1", "2024-06-01/2024-08-31", "2024-13-45", "../..", "9999-12-31T23:59:60Z",
    "2024-06-01/..", "viridis", "mean", "max", "fpn.0", "upsample", "backbone.3", "int8", "EPSG:3857", "EPSG:99999", "bytes=0-0",
    "bytes=5-2", "bytes=-1", "bytes=0-0,2-3", "W/\"x\"", "*", "\"", "respond-async", "wait=0",
]
ODD_NUMBERS = [0, -1, 1, 2, 7, 180, 181, -90.0000001, 90, 360, 1e-320, 1e308, -1e308, 2**31, 2**53, 2**63, 2**64, 10**40, 0.1, -0.0]
INTERESTING = [0, 1, 2, 3, 4, 8, 16, 127, 128, 255, 256, 512, 32767, 32768, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
TASKS = {
    "world": ["water", "elevation", "embedding"], "trees": ["tree_crown", "embedding"], "my_cover": ["cover", "embedding"], "probe": ["ground"],
    "Sentinel2_SwinT_SI_RGB": ["land_cover", "point", "embedding"],
}
MODELS = ["world"] * 12 + ["trees"] * 3 + list(TASKS)
FORMATS = ["png", "webp", "tif", "geojson", "npy", "json", "safetensors", "parquet", "mvt"]
QUERIES = {
    "format": FORMATS, "images": ["1", "2", "8"], "bands": ["1,2,3", "3,2,1", "1", "1,1,1"], "preset": ["auto", "tci", "reflectance"],
    "dn_offset": ["0", "-1000", "65535"], "captures": ["1", "1,2"], "layer": ["backbone.0", "backbone.3", "fpn.0", "upsample", "all"],
    "pool": ["mean", "max", "none"], "cell_px": ["32", "64", "1"], "precision": ["float32", "int8"], "threshold": ["0", "0.5", "1"],
    "categories": ["water", "land", "land,water"], "max_detections": ["0", "5", "100000"], "render": ["color", "index", "probability"],
    "category": ["water", "land"], "colormap": ["viridis", "gray", "inferno", "terrain"], "rescale": ["0,1", "-5,5"],
    "opacity": ["0", "0.5", "1"], "simplify": ["0", "1.5", "64"], "source": ["world", "trees"], "tilesize": ["256", "512"],
    "datetime": ["2024-06-01/2024-08-31", "2024-06-01"], "resampling": ["nearest", "bilinear", "cubic"], "capture": ["1"],
    "id": ["mine", "probe", "a.b-c_d"], "title": ["Mine"], "state": ["done", "failed", "queued"], "limit": ["1", "10"],
    "after": ["world"], "dry_run": ["true", "false"], "vectors": ["embedding", "vector"], "ids": ["id"], "times": ["datetime", "time"],
}
HEADERS = [
    ("Accept", ["*/*", "image/png", "application/json;q=0.1, image/webp", "text/html", "application/geo+json", ";;;", "a/b;q=9"]),
    ("Content-Type", ["", "text/plain", "application/json; charset=utf-16", "multipart/form-data", "multipart/form-data; boundary=", "image/tiff; x"]),
    ("Content-Encoding", ["gzip", "br", "identity", "zstd", "gzip, gzip"]), ("Accept-Encoding", ["gzip", "br, zstd", "*;q=0", ","]),
    ("Range", ["bytes=0-0", "bytes=5-2", "bytes=-0", "bytes=0-0,2-3,1-1", "lines=1-2", "bytes=99999999999999999999-"]),
    ("If-None-Match", ["*", "\"x\"", "W/\"x\", \"y\"", "\"" * 50]), ("If-Range", ["\"x\"", "Wed, 21 Oct 2015 07:28:00 GMT"]),
    ("Prefer", ["respond-async", "respond-async, wait=0", "wait=99999999999", "return=minimal"]), ("X-Request-Id", ["a b", "x" * 4000]),
    ("Origin", ["http://evil.example", "null", "http://127.0.0.1"]), ("X-Forwarded-Prefix", ["/../..", "//evil.example"]),
    ("X-Forwarded-Host", ["evil.example", "a b"]), ("Authorization", ["Bearer x", "Bearer", "Basic eDp5"]), ("Expect", ["100-continue", "x"]),
    ("Host", ["evil.example", "", "[::1]:80", "a" * 300]), ("Connection", ["close", "upgrade"]), ("Upgrade", ["h2c", "websocket"]),
]


def files(*patterns, most=1 << 21):
    """The files that the patterns name, as (name, content), in the order of their names."""
    paths = sorted({path for pattern in patterns for path in glob.glob(os.path.join(ROOT, pattern), recursive=True)})
    paths = [path for path in paths if os.path.isfile(path) and os.path.getsize(path) <= most]
    return [(os.path.basename(path), open(path, "rb").read()) for path in paths]


def npy(shape, descr="|u1", values=None):
    text = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr, shape)
    count = 1
    for side in shape:
        count *= side
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.encode().ljust(117) + b"\n"
    return head + (bytes(i * 7 % 256 for i in range(count * int(descr[2:]))) if values is None else values)


def picture(side=40):
    """A small PNG with something to see."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((row * col + band * 90) % 256 for col in range(side) for band in range(3)) for row in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def folders(chip, count=6):
    """A zip file of chips, each in the folder of its category."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for index in range(count):
            file.writestr("%s/%d.npy" % ("ab"[index % 2], index), chip)
    return packed.getvalue()


class Seeds:
    """What is sound, to be spoilt."""

    def __init__(self):
        with open(os.path.join(ROOT, "openapi", "openapi.json")) as text:
            self.paths = json.load(text)["paths"]
        self.operations = [
            (method.upper(), path, item)
            for path, methods in self.paths.items() for method, item in methods.items() if method in ("get", "post", "put", "delete")
        ]
        arrays = [npy((3, 40, 40)), npy((40, 40)), npy((2, 3, 40, 40)), npy((3, 40, 40), "<u2"), npy((3, 32, 32), "<f4")]
        self.rasters = [picture(), *arrays] + [data for _, data in files(
            "static/demo/trees_osbs.tif", "tests/fixtures/raster/layouts/*", "tests/fixtures/raster/places/*",
            "tests/fixtures/raster/jpeg2000/*", "tests/fixtures/raster/pixels/*", "tests/fuzz/corpus/tiff/*",
            "tests/fuzz/corpus/jpeg2000/*", "tests/fuzz/corpus/npy/*", most=1 << 18)]
        self.chips = [folders(npy((3, 40, 40))), folders(picture()), npy((6, 3, 40, 40)), npy((6, 3, 32, 32), "<f4"), folders(b"", 300)]
        self.tables = [data for _, data in files("tests/fixtures/indexes/*.parquet", "tests/fixtures/indexes/*.npy")]
        self.on_disk = files(
            "tests/fixtures/tiles/*tiles", "tests/fixtures/raster/layouts/*", "tests/fixtures/raster/places/*",
            "tests/fixtures/stac/items.json", "tests/fixtures/raster/sidecars/*/*", "tests/fuzz/corpus/pmtiles/*",
            "tests/fuzz/corpus/stac/*", most=1 << 19)
        self.checkpoints = files("tests/fixtures/checkpoints/*.pth", "tests/fixtures/checkpoints/*.ckpt",
                                 "tests/fixtures/checkpoints/*.safetensors")
        self.geojson = json.loads(files("static/demo/trees_osbs.geojson")[0][1])


def spoilt(rng, data, others):
    """The bytes with a few faults, most of them near the beginning or the end."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        size = len(data)
        near = rng.choice([64, 512, 4096, size])
        at = min(rng.randrange(max(1, min(near, size))), max(0, size - 1))
        if rng.random() < 0.2:
            at = max(0, size - 1 - at)
        kind = rng.randrange(9)
        if kind == 0 and size:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and size:
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind <= 4 and size > 8:
            form = rng.choice(["<H", ">H", "<I", ">I", "<Q", ">Q"])
            value = struct.pack(form, rng.choice(INTERESTING) & (1 << 8 * struct.calcsize(form)) - 1)
            data[at:at + len(value)] = value
        elif kind == 5:
            del data[at:at + rng.choice([1, 2, 16, size])]
        elif kind == 6:
            data[at:at] = data[at:at + rng.choice([1, 12, 64, 4096])] * rng.choice([1, 2, 50])
        elif kind == 7:
            data[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
        else:
            other = rng.choice(others)
            start = rng.randrange(max(1, len(other)))
            data[at:at + rng.choice([0, 64])] = other[start:start + rng.choice([8, 64, 1024])]
    return bytes(data[:1 << 21])


def nodes(value, path=()):
    """The paths of all members and elements of a document."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from nodes(value[key], path + (key,))
    elif isinstance(value, list):
        for index in range(min(len(value), 50)):
            yield from nodes(value[index], path + (index,))


def repeated(value, times):
    """The value so many times, fewer if it is long: texts of gigabytes would keep this script busy, not the server."""
    return [value] * max(1, min(times, (1 << 20) // len(json.dumps(value))))


def odd_value(rng, depth=0):
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice([None, True, False, [], {}, [[]], [None], {"": None}])
    if kind <= 2:
        return rng.choice(ODD_NUMBERS)
    if kind <= 4:
        return rng.choice(ODD_TEXTS)
    if kind == 5 and depth < 3:
        return repeated(odd_value(rng, depth + 1), rng.choice([1, 3, 1000]))
    if kind == 6 and depth < 3:
        return {rng.choice(ODD_TEXTS): odd_value(rng, depth + 1), "type": rng.choice(["Point", "Polygon", "Feature", "segment"])}
    return rng.choice([[8.5, 25.0], [-10, 35, 20, 60], {"type": "Point", "coordinates": [8.5, 25.0]}])


def spoilt_document(rng, value):
    """The document with a few of its values exchanged, left out, added or repeated, as bytes."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        # What is repeated must not be one and the same, or the next fault is in all of it.
        value = json.loads(json.dumps(value))
        path = rng.choice(list(nodes(value)))
        if not path:
            continue
        parent = value
        for step in path[:-1]:
            parent = parent[step]
        kind = rng.randrange(6)
        if kind == 0:
            del parent[path[-1]]
        elif kind == 1 and isinstance(parent, list):
            parent[path[-1]:path[-1]] = repeated(parent[path[-1]], rng.choice([1, 100]))
        elif kind == 2 and isinstance(parent, dict):
            parent[rng.choice(ODD_TEXTS)] = parent[path[-1]]
        else:
            parent[path[-1]] = odd_value(rng)
    text = json.dumps(value).encode()
    if rng.random() < 0.1:
        text = spoilt(rng, text, [b"{}[]\",:0e9\\u0000\xff"])
    if rng.random() < 0.01:
        text = rng.choice([b"[" * 100_000, b'{"a":' * 50_000, b'"' + b"\\u0041" * 100_000 + b'"', b"[" + b"0," * 400_000 + b"0]", b"1" * 900_000])
    return text


class Client:
    """One client's requests and what became of them."""

    def __init__(self, fuzz, number):
        self.fuzz, self.seeds, self.server = fuzz, fuzz.seeds, fuzz.server
        self.rng = random.Random("%d-%d" % (fuzz.seed, number))
        self.socket, self.before = None, b""

    def run(self, count):
        for _ in range(count):
            if self.server.process.poll() is not None:
                return
            operation = self.rng.choice(self.seeds.operations)
            wire, is_framed = self.request(*operation)
            self.send("%s %s" % operation[:2], operation[0], wire, is_framed)

    def request(self, method, template, item):
        """The bytes of a request, and whether its framing is sound."""
        rng = self.rng
        path, model = template, rng.choice(MODELS)
        for name in [part.split("}")[0] for part in template.split("{")[1:]]:
            path = path.replace("{%s}" % name, quoted(self.path_part(name, model)))
        names = [parameter["name"] for parameter in item.get("parameters", []) if parameter["in"] == "query"]
        query = [(name, rng.choice(ODD_TEXTS if rng.random() < 0.15 else QUERIES.get(name, ODD_TEXTS)))
                 for name in names if rng.random() < 2.5 / (len(names) + 1)]
        if "/tiles/{model}" in template and rng.random() < 0.9:
            query = [pair for pair in query if pair[0] != "source"] + [("source", rng.choice(["world", "world", "trees", "disk"]))]
        if rng.random() < 0.03:
            query.append((rng.choice(names or ODD_TEXTS), rng.choice(ODD_TEXTS)))
        path += "?" + "&".join("%s=%s" % (quoted(name), quoted(value)) for name, value in query) if query else ""
        headers = {"Host": "127.0.0.1:%d" % self.server.port}
        body = b""
        content = item.get("requestBody", {}).get("content", {})
        if content and rng.random() < 0.98:
            media = rng.choice(list(content))
            body, headers["Content-Type"] = self.body(template, media, content)
            if rng.random() < 0.02:
                body, headers["Content-Encoding"] = zlib.compress(body, wbits=31), "gzip"
        if body or method != "GET":
            headers["Content-Length"] = str(len(body))
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            name, values = rng.choice(HEADERS)
            headers[name] = rng.choice(values + ODD_TEXTS[:1]) if rng.random() < 0.9 else rng.choice(ODD_TEXTS)
        lines = ["%s %s HTTP/1.1" % (method, path)] + ["%s: %s" % pair for pair in headers.items()]
        head = "\r\n".join(line.replace("\r", "").replace("\n", "") for line in lines).encode() + b"\r\n\r\n"
        if rng.random() < 0.02:
            return spoilt(rng, head, [head]) + body, False
        return head + body, True

    def path_part(self, name, model):
        rng = self.rng
        if rng.random() < 0.04:
            return rng.choice(ODD_TEXTS)
        if name == "model":
            return model
        if name in ("z", "x", "y"):
            return str(rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 22, 40]))
        choices = {"task": TASKS.get(model, []) * 3 + ["water"], "format": FORMATS, "source": ["world", "trees", "disk", "mine"], "index": ["mine", "fields", "greece"],
                   "code": ["invalid_value", "not_found"], "path": ["viewer.js", "vendor/maplibre-gl/maplibre-gl.mjs", "demo/demo.json"]}
        return rng.choice(list(self.fuzz.jobs) or ["none"]) if name == "job" else rng.choice(choices.get(name, ODD_TEXTS))

    def body(self, template, media, content):
        """A body and its media type."""
        rng = self.rng
        if "json" in media:
            document = content[media].get("example") or {"id": "disk", "path": "one.tif"}
            return spoilt_document(rng, self.document(template, document)), media
        of_chips = template.endswith(("/batch", "/chips")) and rng.random() < 0.7
        pool = self.seeds.tables if "indexes" in template else self.seeds.chips if of_chips else self.seeds.rasters
        parts = [rng.choice(pool) for _ in range(rng.choice([1, 1, 2, 9]) if media.startswith("multipart") else 1)]
        parts = [spoilt(rng, part, pool) if rng.random() < 0.8 else part for part in parts]
        if template == "/v1/sources" and rng.random() < 0.5:
            return spoilt_document(rng, {"id": "disk", "path": self.disk_name()}), "application/json"
        if not media.startswith("multipart"):
            return parts[0], media
        names = {"batch": "chip", "indexes": "table", "chips": "chips"}
        name = names.get(template.rsplit("/", 1)[1], "image")
        parts = [(name, part) for part in parts]
        if name == "chips":
            labels = [rng.choice(["a", "b", 3, None]) for _ in range(6)] if rng.random() < 0.5 else None
            fit = {"id": "mine", "task": "ground", "type": "classification", **({"labels": labels} if labels else {})}
            parts.insert(0, ("fit", spoilt_document(rng, fit) if rng.random() < 0.5 else json.dumps(fit).encode()))
        boundary = b"edge"
        form = b"".join(b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n' % (
            boundary, name.encode(), quoted(rng.choice(["a.tif", *ODD_TEXTS[:8]])).encode(), part) for name, part in parts)
        form += b"--%s--\r\n" % boundary
        return spoilt(rng, form, [form]) if rng.random() < 0.1 else form, media + "; boundary=edge"

    def document(self, template, example):
        rng = self.rng
        if template.startswith("/v1/sources"):
            return {**example, "path": self.disk_name()} if "path" in example else example
        if template == "/v1/models" and rng.random() < 0.5:
            return {"id": "mine", "checkpoint": {"path": rng.choice(self.fuzz.checkpoints), "layout": rng.choice(["satlas", "torchvision"])},
                    "backbone": {"type": "swin_v2_t"}, "heads": example["heads"], "bands": ["R", "G", "B"]}
        if template.endswith("/fit") and rng.random() < 0.3:
            features = self.seeds.geojson["features"][:rng.choice([2, 20, 200])]
            labels = {"type": "FeatureCollection", "features": [{**feature, "properties": {"class": str(index % 3)}} for index, feature in enumerate(features)]}
            return {**example, "source": "trees", "labels": labels}
        if "bbox" in example and rng.random() < 0.5:
            west, south = rng.uniform(-30, 30), rng.uniform(-30, 50)
            ring = [[west, south], [west + 9, south], [west + 9, south + 9], [west, south + 5], [west, south]]
            document = {name: value for name, value in example.items() if name != "bbox"}
            return {**document, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        return example

    def disk_name(self):
        return self.rng.choice(self.fuzz.on_disk) if self.rng.random() < 0.95 else self.rng.choice(ODD_TEXTS)

    def send(self, operation, method, wire, is_framed):
        started = time.monotonic()
        # What came before on the same connection, which may be why this one ends without an answer.
        before = self.before if self.socket else b""
        try:
            status, answer = self.exchange(method, wire, is_framed)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            status, answer = type(error).__name__, None
        taken = time.monotonic() - started
        self.before = wire
        self.fuzz.note(operation, status, answer, taken, (before, wire), is_framed)

    def exchange(self, method, wire, is_framed):
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.server.port), timeout=60)
        try:
            self.socket.sendall(wire)
        except (BrokenPipeError, ConnectionResetError):
            # It has answered before it has read everything.
            pass
        if not is_framed:
            self.socket.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(self.socket, method=method)
        answer.begin()
        while answer.status == 100:
            answer.begin()
        answer.body = answer.read()
        if answer.will_close or not is_framed:
            self.close()
        return str(answer.status), answer

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None


def quoted(text):
    """Percent-encoded, but for what servers must take as it is."""
    return quote(text, safe=":,%/." if text.startswith(("%", "..")) else ":,")


class Fuzz:
    def __init__(self, seed, seeds, server, on_disk, checkpoints, folder):
        self.seed, self.seeds, self.server, self.on_disk, self.checkpoints = seed, seeds, server, on_disk, checkpoints
        self.folder, self.lock = folder, threading.Lock()
        self.counts = collections.defaultdict(collections.Counter)
        self.slowest = collections.defaultdict(float)
        self.findings = []
        self.jobs = collections.deque(maxlen=50)

    def note(self, operation, status, answer, taken, wires, is_framed):
        with self.lock:
            self.counts[operation][status] += 1
            self.slowest[operation] = max(self.slowest[operation], taken)
            done = sum(sum(counts.values()) for counts in self.counts.values())
            if done % 2000 == 0:
                print("%d requests, VmHWM %s kB, VmRSS %s kB, %d findings" % (
                    done, self.server.status("VmHWM"), self.server.status("VmRSS"), len(self.findings)), file=sys.stderr, flush=True)
            if status == "202" and answer.getheader("Location"):
                self.jobs.append(answer.getheader("Location").rsplit("/", 1)[1])
            is_refusal = status == "503" and answer.getheader("Retry-After") or status == "502"
            is_fault = status.startswith("5") and not is_refusal or is_framed and not status.isdigit()
            if not is_fault and taken <= LATEST_S:
                return
            path = os.path.join(self.folder, "%d.http" % len(self.findings))
            for name, wire in zip((path + ".before", path), wires):
                with open(name, "wb") as file:
                    file.write(wire)
            said = getattr(answer, "body", b"")[:300]
            self.findings.append("%s: %s after %.1f s, %s: %s" % (operation, status, taken, path, said))
            print(self.findings[-1], file=sys.stderr, flush=True)


def prepare(rng, seeds, root, models):
    """Files that clients may name: sound ones and, of each, several spoilt."""
    on_disk, checkpoints = [], []
    for pool, folder, names in ((seeds.on_disk, root, on_disk), (seeds.checkpoints, models, checkpoints)):
        everything = [data for _, data in pool]
        for index, (name, data) in enumerate(pool):
            for copy in range(6):
                stem, extension = os.path.splitext(name)
                names.append("%s_%d_%d%s" % (stem, index, copy, extension))
                with open(os.path.join(folder, names[-1]), "wb") as file:
                    file.write(spoilt(rng, data, everything) if copy else data)
    shutil.copy(os.path.join(ROOT, "static/demo/trees_osbs.tif"), os.path.join(root, "one.tif"))
    return on_disk, checkpoints


def main(requests=50_000, seed=1):
    rng, seeds, folder = random.Random(seed), Seeds(), tempfile.mkdtemp(prefix="fuzz-")
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as models, tempfile.TemporaryDirectory() as data:
        names = prepare(rng, seeds, root, models)
        started = time.monotonic()
        with Server("--source-root", root, "--models-dir", models, "--data-dir", data, *OPTIONS) as server:
            fuzz = Fuzz(seed, seeds, server, *names, folder)
            clients = [threading.Thread(target=Client(fuzz, number).run, args=(requests // CLIENTS,)) for number in range(CLIENTS)]
            [client.start() for client in clients]
            [client.join() for client in clients]
            taken, peak = time.monotonic() - started, int(server.status("VmHWM", "0")) // 1024
            if server.process.poll() is not None:
                fuzz.findings.append("the server ended with %d" % server.process.poll())
            if server.send("GET", "/health/live", patience=20) != "200":
                fuzz.findings.append("/health/live is not 200")
        panics = [line.decode(errors="replace") for line in server.log if b"panic" in line]
    fuzz.findings += panics[:20]
    if peak > MOST_MIB:
        fuzz.findings.append("a peak of %d MiB; the budgets and a pass are %d" % (peak, MOST_MIB))
    print("| operation | requests | answers | slowest, s |\n| --- | --- | --- | --- |")
    for operation, counts in sorted(fuzz.counts.items(), key=lambda entry: entry[0].split()[::-1]):
        answers = ", ".join("%d x %s" % (count, status) for status, count in sorted(counts.items()))
        print("| `%s` | %d | %s | %.1f |" % (operation, sum(counts.values()), answers, fuzz.slowest[operation]))
    total = sum(sum(counts.values()) for counts in fuzz.counts.values())
    print("\n%d requests, seed %d, in %.0f s; peak %d MiB of %d; %d lines in the log, %d of panics; %d findings" % (
        total, seed, taken, peak, MOST_MIB, len(server.log), len(panics), len(fuzz.findings)))
    for finding in fuzz.findings:
        print("- " + finding)
    return 1 if fuzz.findings else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
