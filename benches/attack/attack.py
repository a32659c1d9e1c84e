#!/usr/bin/env python3
"""Sends hostile input to the server, each case to a process of its own, and prints what it cost: a Markdown table.

    benches/attack/attack.py [CASE …]

Time is that of the whole case in seconds, memory the process's peak (VmHWM). SATLAS_SERVE_BIN names another binary.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import inputs

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BINARY = os.environ.get("SATLAS_SERVE_BIN", os.path.join(ROOT, "target", "release", "satlas-serve"))
PATIENCE_S = 300


class Server:
    """A server of its own, on a free port, with synthetic weights."""

    def __init__(self, *options, nofile=None):
        command = [BINARY, "serve", "--port", "0", "--weights", "synthetic:1", "--log-level", "error", *options]
        if nofile:
            command = ["prlimit", "--nofile=%d" % nofile, *command]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().decode().strip().rsplit(":", 1)[1])
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        started = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.stopped_s = time.monotonic() - started

    def status(self, name, default="?"):
        try:
            with open("/proc/%d/status" % self.process.pid) as lines:
                return next((line.split()[1] for line in lines if line.startswith(name + ":")), default)
        except OSError:
            return default

    def send(self, method, path, body=None, media="application/octet-stream", patience=PATIENCE_S):
        """The status of the answer, or what went wrong instead."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
            connection.request(method, path, body, {"Content-Type": media} if body else {})
            answer = connection.getresponse()
            self.last = answer.read()
            return str(answer.status)
        except OSError as error:
            return type(error).__name__
        except http.client.HTTPException as error:
            return type(error).__name__

    def together(self, count, *request):
        found = [None] * count
        def send(index):
            found[index] = self.send(*request)
        threads = [threading.Thread(target=send, args=(index,)) for index in range(count)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return " ".join(found)


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
        head = "POST /v1/predict/world/water?format=npy HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n" \
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


CASES = [
    (embedding_of_a_large_picture, {}), (unpooled_embedding_of_a_large_picture, {}), (wide_picture, {}),
    (shared_mask_directories, {}), (pictures_as_sources, {}), (one_strip_eight_times, {}), (odd_palette, {}),
    (endless_view, {}), (silent_connections, {"nofile": 1024}), (clients_that_do_not_read, {}), (large_manifests, {}),
    (models_at_once, {"options": ["--model-memory", "256MiB"]}),
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
