"""A server of the program, and questions to it."""

import json
import pathlib
import subprocess
import tempfile
import urllib.error
import urllib.request

from checks import PATIENCE_S


class Server:
    def __init__(self, program, work, *arguments, command="serve"):
        log = tempfile.NamedTemporaryFile("w", dir=work, suffix=".log", delete=False)
        # A worker hands back what it has at once.
        grace = ["--stop-grace", "0s"] if command == "serve" else []
        self.process = subprocess.Popen([program, command, "--port", "0", *grace, *arguments], stdout=subprocess.PIPE, stderr=log)
        self.log = pathlib.Path(log.name)
        self.address = self.process.stdout.readline().decode().strip().rsplit(" ", 1)[-1]

    def answer(self, method, path, body=None):
        """Status, headers and body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def ask(self, method, path, body=None):
        """Status and body."""
        status, _, body = self.answer(method, path, body)
        return status, body

    def status(self, method, path, body=None):
        return self.answer(method, path, body)[0]

    def document(self, path):
        """The JSON at a path."""
        return json.loads(self.answer("GET", path)[2])

    def kill(self):
        self.process.kill()
        self.process.wait()
