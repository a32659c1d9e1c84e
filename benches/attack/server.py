"""A server of its own for each case, and plain requests to it."""

import http.client
import os
import subprocess
import threading
import time

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

    def send(self, method, path, body=None, media="application/octet-stream", patience=PATIENCE_S, headers=()):
        """The status of the answer, or what went wrong instead."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
            connection.request(method, path, body, {**({"Content-Type": media} if body else {}), **dict(headers)})
            answer = connection.getresponse()
            self.last = answer.read()
            return str(answer.status)
        except OSError as error:
            return type(error).__name__
        except http.client.HTTPException as error:
            return type(error).__name__

    def together(self, count, *request):
        """What becomes of the same request sent so many times at once."""
        found = [None] * count
        def send(index):
            found[index] = self.send(*request)
        threads = [threading.Thread(target=send, args=(index,)) for index in range(count)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return " ".join(found)
