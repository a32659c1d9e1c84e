#!/usr/bin/env python3
"""Sends hostile input to the server, each case to a process of its own, and prints what it cost: a Markdown table.

    benches/attack/attack.py [CASE …]

Time is that of the whole case in seconds, memory the process's peak (VmHWM). SATLAS_SERVE_BIN names another binary.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time

import inputs
from server import ROOT, Server


def embedding_of_a_large_picture(server):
    picture = inputs.black_png(11585, 11585)
    path = "/v1/predict/Sentinel2_SwinT_SI_RGB/embedding?layer=upsample"
    return server.send("POST", path, picture)


def unpooled_embedding_of_a_large_picture(server):
    picture = inputs.black_png(11585, 11585)
    return server.send("POST", "/v1/predict/Sentinel2_SwinT_SI_RGB/embedding?layer=upsample&pool=none", picture)


def wide_picture(server):
    return server.send("POST", "/v1/predict/Sentinel2_SwinT_SI_RGB/land_cover?format=png", inputs.black_png(209715, 640))


def shared_mask_directories(server):
    return server.send("POST", "/v1/predict/world/water?format=png", inputs.shared_masks_tiff())


def pictures_as_sources(server):
    picture = inputs.black_png(11585, 11585, 16, 6)
    found = [server.send("POST", "/v1/sources?id=bomb%d" % number, picture) for number in range(5)]
    return " ".join(found + [server.send("GET", "/v1/sources/bomb0/tiles/0/0/0.png")])


def one_strip_eight_times(server):
    return server.together(8, "POST", "/v1/predict/world/water?format=png", inputs.one_strip_tiff())


def odd_palette(server):
    return server.send("POST", "/v1/predict/world/water?format=png", inputs.odd_palette_png()) + \
        ", %d lines in the log" % len(server.log)


def endless_view(server):
    root = server.root
    inputs.endless_mbtiles(os.path.join(root, "endless.mbtiles"))
    body = '{"id": "endless", "path": "endless.mbtiles"}'
    return server.send("POST", "/v1/sources", body.encode(), "application/json", 60)


def silent_connections(server):
    silent = []
    for _ in range(1100):
        connection = socket.socket()
        connection.settimeout(5)
        try:
            connection.connect(("127.0.0.1", server.port))
        except OSError:
            break
        silent.append(connection)
    time.sleep(1)
    found = server.send("GET", "/health/live", patience=20)
    [connection.close() for connection in silent]
    return "%d silent, /health/live: %s" % (len(silent), found)


def clients_that_do_not_read(server):
    clients = []
    array = b"\x93NUMPY\x01\x00\x76\x00" + \
        b"%-117s\n" % b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 3000, 3000), }" + bytes(27_000_000)
    for _ in range(3):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        head = "POST /v1/predict/world/water?format=npy HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n" \
            "Content-Length: %d\r\n\r\n" % len(array)
        try:
            client.sendall(head.encode() + array)
        except OSError:
            # Refused before all of it was read.
            pass
        clients.append(client)
    time.sleep(100)
    held = int(server.status("VmRSS", "0")) // 1024
    [client.close() for client in clients]
    return "%d MiB held after 100 s" % held


def large_manifests(server):
    found = {}
    for number in range(400):
        status = server.send("POST", "/v1/models", inputs.large_manifest("m%d" % number), "application/json")
        found[status] = found.get(status, 0) + 1
    server.send("GET", "/v1/models")
    return "%s, GET /v1/models: %d kB" % (found, len(server.last) // 1000)


def models_at_once(server):
    """Loads all pre-trained models together, with memory for two."""
    server.send("GET", "/v1/models")
    ids = [model["id"] for model in json.loads(server.last)["models"] if model["id"].startswith("Sentinel2_Swin")]
    found = [None] * len(ids)
    def load(index):
        found[index] = server.send("POST", "/v1/models/%s/load" % ids[index])
    threads = [threading.Thread(target=load, args=(index,)) for index in range(len(ids))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return " ".join(found)


NPY = "application/x-npy"
JSON = "application/json"


def counted(statuses):
    """`2 x 413, 200` for a list of statuses."""
    return ", ".join(("%d x " % statuses.count(one) if statuses.count(one) > 1 else "") + one for one in sorted(set(statuses)))


def odd_npys(server):
    return counted([server.send("POST", "/v1/predict/world/water?format=png", odd, NPY) for odd in inputs.odd_npys()])


def npy_of_many_images(server):
    array = inputs.npy((20_000_000, 1, 1, 1))
    paths = ["/v1/predict/world/water?format=png", "/v1/predict/world/embedding/batch", "/v1/sources?id=many"]
    return " ".join(server.send("POST", path, array, NPY) for path in paths)


def npys_at_once(server):
    array = inputs.npy((3, 4000, 4000), "<f8")
    return counted(server.together(16, "POST", "/v1/predict/world/water?format=png", array, NPY).split())


def slow_uploads(server):
    """Bodies of just below what is kept in memory, whose last bytes come one a second."""
    clients = []
    for _ in range(200):
        client = socket.socket()
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"POST /v1/predict/world/water HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
                       b"Content-Length: 8000000\r\n\r\n" + bytes(7_900_000))
        clients.append(client)
    for _ in range(10):
        time.sleep(1)
        for client in clients:
            try:
                client.sendall(b"0")
            except OSError:
                # It has been answered.
                pass
    held = int(server.status("VmRSS", "0")) // 1024
    found = server.send("GET", "/health/live", patience=20)
    [client.close() for client in clients]
    return "%d MiB held by 200 uploads, /health/live %s" % (held, found)


def polygon_of_long_edges(server):
    body = json.dumps({"source": "world", "geometry": inputs.zigzag(), "pixel_size": 100}).encode()
    other = json.dumps({"source": "world", "geometry": inputs.zigzag(west=-60, east=-20, south=-20, north=20)}).encode()
    path = "/v1/predict/world/water/area?format=png"
    return " ".join(server.send("POST", path, text, JSON) for text in (body, other))


def odd_tiffs(server):
    tiffs = [inputs.chained_tiff(), inputs.circular_tiff(), inputs.long_tags_tiff()]
    return " ".join(server.send("POST", "/v1/predict/world/water?format=png", tiff, "image/tiff") for tiff in tiffs)


def compressed_bodies(server):
    bomb, gzip = inputs.gzip_bomb(), [("Content-Encoding", "gzip")]
    sent = [("/v1/predict/world/water", "image/tiff"), ("/v1/models", JSON), ("/v1/sources", JSON), ("/v1/indexes?id=a", NPY)]
    return " ".join(server.send("POST", path, bomb, media, headers=gzip) for path, media in sent)


def nested_documents(server):
    deep = [inputs.nested(500_000), inputs.nested(150_000, b'{"a":', b"}"), inputs.nested(500_000, closing=b"")]
    paths = ["/v1/models", "/v1/jobs", "/v1/models/world/fit", "/v1/sources", "/v1/indexes/area", "/v1/predict/world/water/area"]
    return counted([server.send("POST", path, text, JSON) for path in paths for text in deep])


def many_labels(server):
    body = inputs.labels(65_000)
    return counted(server.together(8, "POST", "/v1/models/world/fit", body, JSON).split())


def stac_documents(server):
    found = []
    shutil.copy(os.path.join(ROOT, "static", "demo", "trees_osbs.tif"), os.path.join(server.root, "one.tif"))
    for name, text in (("many", inputs.stac_items(400_000)), ("deep", b'{"type":"Feature","assets":' + inputs.nested(1_000_000) + b"}")):
        with open(os.path.join(server.root, name + ".json"), "wb") as file:
            file.write(text)
        found.append(server.send("POST", "/v1/sources", json.dumps({"id": name, "path": name + ".json"}).encode(), JSON))
    return " ".join(found)


def large_answers_that_nobody_reads(server):
    """Three clients each that ask for arrays, GeoTIFF and feature maps, and read nothing."""
    array, clients = inputs.npy((3, 3000, 3000)), []
    for path in ["water?format=npy", "water?format=tif", "embedding?format=npy&pool=none&layer=fpn.0"]:
        for _ in range(3):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            head = "POST /v1/predict/world/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nContent-Length: %d\r\n\r\n"
            try:
                client.sendall((head % (path, len(array))).encode() + array)
            except OSError:
                # Refused before all of it was read.
                pass
            clients.append(client)
    held = []
    for _ in range(10):
        time.sleep(10)
        held.append(int(server.status("VmRSS", "0")) // 1024)
    found = server.send("GET", "/health/live", patience=20)
    [client.close() for client in clients]
    return "%d MiB held at most, %d after 100 s, /health/live %s" % (max(held), held[-1], found)


CASES = [
    (embedding_of_a_large_picture, {}), (unpooled_embedding_of_a_large_picture, {}), (wide_picture, {}),
    (shared_mask_directories, {}), (pictures_as_sources, {}), (one_strip_eight_times, {}), (odd_palette, {}),
    (endless_view, {}), (silent_connections, {"nofile": 1024}), (clients_that_do_not_read, {}), (large_manifests, {}),
    (models_at_once, {"options": ["--model-memory", "256MiB"]}), (odd_npys, {}), (npy_of_many_images, {}), (npys_at_once, {}),
    (slow_uploads, {}), (polygon_of_long_edges, {}), (odd_tiffs, {}), (compressed_bodies, {}), (nested_documents, {}),
    (many_labels, {}), (stac_documents, {}), (large_answers_that_nobody_reads, {}),
]


def main(chosen):
    print("| case | answer | s | peak MiB | s to stop |\n| --- | --- | --- | --- | --- |", flush=True)
    for case, settings in CASES:
        if chosen and case.__name__ not in chosen:
            continue
        with tempfile.TemporaryDirectory() as root:
            options = ["--source-root", root, *settings.get("options", [])]
            with Server(*options, nofile=settings.get("nofile")) as server:
                server.root, started = root, time.monotonic()
                answer = case(server)
                taken, peak = time.monotonic() - started, server.status("VmHWM")
                ended = server.process.poll()
        peak = str(int(peak) // 1024) if peak.isdigit() else peak
        stopped = "ended with %d" % ended if ended is not None else "%.1f" % server.stopped_s
        print("| %s | %s | %.1f | %s | %s |" % (case.__name__, answer, taken, peak, stopped), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
