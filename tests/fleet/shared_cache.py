"""Two servers that share tiles through Redis: a tile is made once, and losing Redis costs no request.

python3 tests/fleet/shared_cache.py target/release/satlas-serve          about 20 s

redis-server (or valkey-server) is needed.
"""

import collections
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from checks import PATIENCE_S, check, until
from services import free_port

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
# Sixteen tiles, four to a window of the network.
TILES = [f"/v1/tiles/world/water/5/{column}/{row}.png?source=world" for column in range(16, 20) for row in range(8, 12)]


class Redis:
    def __init__(self, work):
        self.program, self.work, self.port = shutil.which("redis-server") or shutil.which("valkey-server"), work, free_port()
        self.start()

    def start(self):
        # The password shows that the login works.
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.work), "--requirepass", "secret",
                   "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]
        self.process = subprocess.Popen([self.program, *options], stdout=subprocess.DEVNULL)

    def url(self):
        return f"redis://:secret@127.0.0.1:{self.port}/1"

    def send(self, signal_number):
        self.process.send_signal(signal_number)


class Server:
    def __init__(self, work, url, patience):
        log = tempfile.NamedTemporaryFile("w", dir=work, suffix=".log", delete=False)
        arguments = ["--port", "0", "--redis-url", url, "--redis-timeout", patience, "--stop-grace", "0s"]
        self.process = subprocess.Popen([PROGRAM, "serve", *arguments], stdout=subprocess.PIPE, stderr=log)
        self.log = pathlib.Path(log.name)
        self.address = self.process.stdout.readline().decode().strip().rsplit(" ", 1)[-1]

    def get(self, path):
        """Status, headers and body."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()
        except OSError as error:
            return type(error).__name__, {}, b""

    def metric(self, start):
        lines = self.get("/metrics")[2].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))

    def passes(self):
        return self.metric("satlas_forward_seconds_count")

    def is_connected(self):
        return self.metric("satlas_shared_cache_up") == 1

    def outages(self):
        """Those that began, and those that ended, as they were logged."""
        log = self.log.read_text()
        return log.count("the shared cache is away"), log.count("the shared cache is back")


def under_load(servers, digit, action):
    """Eight clients that ask both servers for new tiles while something happens; the answers by status."""
    ended, answers, slowest = threading.Event(), [collections.Counter() for _ in range(8)], [0.0] * 8

    def ask(client):
        asked = client
        while not ended.is_set():
            # Each opacity makes tiles of its own, out of windows that were run before; `digit` makes those of one load new.
            path = TILES[asked % len(TILES)] + f"&opacity=0.{digit}{1000 + asked}"
            began = time.monotonic()
            answers[client][servers[asked // 8 % 2].get(path)[0]] += 1
            slowest[client] = max(slowest[client], time.monotonic() - began)
            asked += 8

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
    for client in clients:
        client.start()
    answered = lambda: sum(sum(counts.values()) for counts in answers)
    until(lambda: answered() > 40, "answers before")
    action()
    before = answered()
    until(lambda: answered() > before + 80, "answers after")
    ended.set()
    for client in clients:
        client.join()
    return dict(sum(answers, collections.Counter())), max(slowest)


def main(work):
    redis = Redis(work)
    # With time on a machine that is busy.
    servers = [Server(work, redis.url(), "10s") for _ in range(2)]
    one, two = servers
    try:
        for server in servers:
            until(server.is_connected, "a connection to Redis")
        for path in TILES:
            status, headers, made = one.get(path)
            check(status == 200, f"{path}: {status}")
            # The tile is written in the background; the lease makes the second server wait for that.
            _, shared, body = two.get(path)
            check("desc=shared" in shared["Server-Timing"], f"{path}: {shared['Server-Timing']}")
            check(body == made and shared["ETag"] == headers["ETag"], f"{path}: other bytes or another name")
        check(two.passes() == 0, "the second server ran the network")
        print(f"tiles of one, answered by the other: {len(TILES)}; passes {one.passes():.0f} and {two.passes():.0f}")

        before = one.passes() + two.passes()
        path = "/v1/tiles/world/elevation/5/20/12.png?source=world"
        clients = [threading.Thread(target=server.get, args=(path,)) for server in servers for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        made = one.passes() + two.passes() - before
        check(made == 1, f"{made:.0f} passes for one tile that eight clients of two servers asked for at once")

        for server in servers:
            server.process.kill()
        servers[:] = one, two = [Server(work, redis.url(), "50ms") for _ in range(2)]
        # Warms the windows of both up, so that the slowest answer shows what Redis costs.
        for opacity, server in zip((0.5, 0.6), servers):
            for path in TILES:
                server.get(f"{path}&opacity={opacity}")
        for digit, name, action in [(1, "killed", signal.SIGKILL), (2, "frozen", signal.SIGSTOP)]:
            counts, slowest_s = under_load(servers, digit, lambda: redis.send(action))
            print(f"Redis {name} under load: {counts}, the slowest {slowest_s:.2f} s")
            check(list(counts) == [200], f"answers while Redis was {name}: {counts}")
            for server in servers:
                check(not server.is_connected(), "the circuit is open")
                began, ended = server.outages()
                check(began == ended + 1, f"{began} warnings of an outage, {ended} of which are over")
            if action == signal.SIGKILL:
                redis.process.wait()
                redis.start()
            else:
                redis.send(signal.SIGCONT)
            for server in servers:
                until(server.is_connected, "Redis to be used again")
        path = TILES[0] + "&opacity=0.75"
        check(one.get(path)[0] == 200 and "desc=shared" in two.get(path)[1]["Server-Timing"], "tiles are shared again")
    finally:
        for server in servers:
            server.process.kill()
        redis.process.kill()
    print("done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(pathlib.Path(folder))
