"""Runs area jobs into a bucket of moto, an S3 in Python, and compares them with a folder:

    python tests/areas/check_bucket.py target/release/satlas-serve

Between the program and moto stands a proxy that answers badly: 503, 409, late, or not at all after a request was done. Needs what
tests/areas/requirements.txt names.
"""

import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import boto3

BINARY = os.path.abspath(sys.argv[1])
JOB = {"model": "world", "task": "elevation", "source": "world", "bbox": [-10, 25, 60, 44], "block_px": 512}
# Files that tell when or how long a run was.
OF_THE_RUN = {"plan.json", "report.json"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy(http.server.ThreadingHTTPServer):
    """Hands requests on to moto, and misbehaves as `faults` says: each takes (method, path) and returns a fault or None."""

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.fault, self.seen, self.lock = port, lambda number, method, path: None, 0, threading.Lock()
        self.done = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.seen += 1
            fault = self.server.fault(self.server.seen, self.command, self.path)
            if fault:
                self.server.done.append(fault)
        if fault in (503, 409):
            error = {503: "SlowDown", 409: "ConditionalRequestConflict"}[fault]
            return self.answer(fault, {"Content-Type": "application/xml"}, f"<Error><Code>{error}</Code></Error>".encode())
        if fault == "late":
            time.sleep(3)
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        if fault == "lost":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if fault == "cut":
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        self.answer(answer.status, dict(answer.getheaders()), content)

    def answer(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def log_message(self, *_):
        pass


def main():
    work = pathlib.Path(tempfile.mkdtemp())
    (work / "job.json").write_text(json.dumps(JOB))
    port = free_port()
    moto = subprocess.Popen([os.path.join(os.path.dirname(sys.executable), "moto_server"), "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        proxy = Proxy(port)
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": proxy.url}
        direct = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                              aws_access_key_id="id", aws_secret_access_key="secret")
        direct.create_bucket(Bucket="results")

        def start(destination):
            return subprocess.Popen([BINARY, "run", str(work / "job.json"), "--destination", destination, "--quiet"],
                                    env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def report(process):
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            return json.loads(out)

        def objects(prefix):
            pages = direct.get_paginator("list_objects_v2").paginate(Bucket="results", Prefix=prefix + "/")
            names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            read = lambda name: direct.get_object(Bucket="results", Key=name)["Body"].read()
            return {name.removeprefix(prefix + "/"): read(name) for name in names}

        def timeless(files):
            """The files without the time at which their plan was made."""
            created = json.loads(files["plan.json"])["created"].encode()
            return {name: content.replace(created, b"TIME") for name, content in files.items()}

        def same(found, wanted, what):
            found, wanted = timeless(found), timeless(wanted)
            assert found.keys() == wanted.keys(), (what, found.keys() ^ wanted.keys())
            for name in wanted.keys() - OF_THE_RUN:
                assert found[name] == wanted[name], (what, name)
            print("as the folder:", what)

        folder = report(start(str(work / "folder")))
        files = {str(path.relative_to(work / "folder")): path for path in (work / "folder").rglob("*") if path.is_file()}
        wanted = {name: path.read_bytes() for name, path in files.items()}
        assert folder["made"] == folder["blocks"] == 2, folder

        assert report(start("s3://results/quiet"))["state"] == "done"
        same(objects("quiet"), wanted, "a bucket")
        again = report(start("s3://results/quiet/"))
        assert (again["made"], again["state"]) == (0, "done"), again

        def each(fault, method, times):
            left = [times]

            def next_fault(_, found, path):
                if found == method and left[0] > 0 and ("/items/" in path or "/rasters/" in path or method == "GET"):
                    left[0] -= 1
                    return fault
                return None

            return next_fault

        for fault, method, times in [(503, "PUT", 3), (503, "GET", 2), (409, "PUT", 2), ("late", "PUT", 2), ("lost", "PUT", 2),
                                     ("lost", "GET", 1), ("cut", "GET", 1)]:
            proxy.fault, proxy.done = each(fault, method, times), []
            prefix = f"{fault}-{method}"
            assert report(start(f"s3://results/{prefix}"))["state"] == "done", prefix
            assert len(proxy.done) == times, (prefix, proxy.done)
            proxy.fault = lambda *_: None
            same(objects(prefix), wanted, f"{times} x {fault} for {method}")

        both = [start("s3://results/both") for _ in range(2)]
        reports = [report(process) for process in both]
        assert all(each["state"] == "done" for each in reports), reports
        same(objects("both"), wanted, "two runs at once")

        killed = start("s3://results/killed")
        while not any("items/" in name for name in objects("killed")):
            time.sleep(0.05)
        killed.kill()
        killed.communicate()
        assert report(start("s3://results/killed"))["state"] == "done"
        same(objects("killed"), wanted, "a run that was killed, and goes on")

        missing = start("s3://no-such-bucket/a")
        _, err = missing.communicate(timeout=300)
        assert missing.returncode != 0 and "no-such-bucket" in err, err
        print("told:", err.strip().splitlines()[-1][:200])
    finally:
        moto.kill()


main()
