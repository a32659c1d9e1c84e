"""Two replicas behind HAProxy with deploy/haproxy/haproxy.cfg: where windows are run, one replica killed under load, a rolling restart.

    python benches/replicas.py target/release/satlas-serve

Needs HAProxy 2.6 or later. Prints the answers by status; every one should be 200.
"""

import collections
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

BINARY = os.path.abspath(sys.argv[1])
CONFIGURATION = pathlib.Path(__file__).parents[1] / "deploy/haproxy/haproxy.cfg"
PROXY, PORTS = 18100, [18101, 18102]
ENVIRONMENT = {**os.environ, "PORT": str(PROXY), "REPLICA_ONE": f"127.0.0.1:{PORTS[0]}", "REPLICA_TWO": f"127.0.0.1:{PORTS[1]}"}
# Sixteen tiles, four to a window.
TILES = [f"/v1/tiles/world/water/5/{column}/{row}.png?source=world" for column in range(16, 20) for row in range(8, 12)]


def status(path, port=PROXY):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error).__name__


def start(port):
    replica = subprocess.Popen([BINARY, "serve", "--port", str(port), "--stop-grace", "3s"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while status("/health/ready", port) != 200:
        time.sleep(0.1)
    return replica


def passes(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("satlas_forward_seconds_count"))


def under_load(name, action):
    """Eight clients that ask for tiles before, while and after something happens."""
    ended, answers = threading.Event(), [collections.Counter() for _ in range(8)]

    def ask(counter):
        asked = 0
        while not ended.is_set():
            counter[status(TILES[asked % len(TILES)])] += 1
            asked += 1

    clients = [threading.Thread(target=ask, args=(counter,)) for counter in answers]
    for client in clients:
        client.start()
    time.sleep(2)
    action()
    time.sleep(4)
    ended.set()
    for client in clients:
        client.join()
    print(f"{name}:", dict(sum(answers, collections.Counter())))


replicas = [start(port) for port in PORTS]
proxy = subprocess.Popen(["haproxy", "-db", "-f", str(CONFIGURATION)], env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
try:
    while status("/health/ready") != 200:
        time.sleep(0.1)
    with ThreadPoolExecutor(8) as clients:
        print("first answers:", dict(collections.Counter(clients.map(status, TILES))))
    print("passes of the network on each replica:", [passes(port) for port in PORTS])

    under_load("one replica killed", replicas[0].kill)
    replicas[0].wait()
    replicas[0] = start(PORTS[0])
    time.sleep(2)

    def restart():
        for index, port in enumerate(PORTS):
            replicas[index].send_signal(signal.SIGTERM)
            replicas[index].wait()
            replicas[index] = start(port)
            time.sleep(2)

    under_load("rolling restart", restart)
finally:
    for process in [proxy, *replicas]:
        process.kill()
