#!/usr/bin/env python3
"""A server under more load than it can serve: answers in time, cached tiles and /health meanwhile, memory, fairness.

usage: benches/load/load.py [BINARY] [options]        needs Python 3.10 and Linux; see README.md beside this file
"""
import argparse
import asyncio
import itertools
import json
import re
import statistics
import time
from pathlib import Path

number = itertools.count(1)
PERMUTATIONS = [",".join(order) for order in itertools.permutations("123")]
CACHED = "/v1/tiles/world/water/4/8/6.png?source=world"


async def ask(port, path, source="127.0.0.1", timeout=300, body=None, headers=""):
    """Status, seconds and headers of one request on a connection of its own."""
    started = time.monotonic()
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            method = "GET" if body is None else "POST"
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}{headers}\r\n".encode() + (body or b""))
            answer = await reader.read()
            head = answer.split(b"\r\n\r\n", 1)[0].decode()
            return int(head[9:12]), time.monotonic() - started, head
    except (TimeoutError, OSError, ValueError) as error:
        return type(error).__name__, time.monotonic() - started, ""
    finally:
        if writer:
            writer.close()


class Server:
    def __init__(self, options):
        self.options = options

    async def __aenter__(self):
        arguments = [self.options.binary, "--port", "0", "--weights", self.options.weights, "--log-level", "error",
                     "--request-timeout", f"{self.options.timeout}s"]
        self.process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        self.port = int((await self.process.stdout.readline()).decode().rsplit(":", 1)[1])
        await ask(self.port, CACHED)
        await ask(self.port, self.cold())
        return self

    async def __aexit__(self, *_):
        self.process.kill()
        await self.process.wait()

    def cold(self):
        """A tile of a window that nobody has asked for: other places first, then other bands and resampling."""
        index, side = next(number), 2 ** (self.options.zoom - 1)
        variant, place = divmod(index, side * side)
        bands = PERMUTATIONS[variant % len(PERMUTATIONS)]
        resampling = ("bilinear", "nearest", "cubic", "average")[variant // len(PERMUTATIONS) % 4]
        row, column = divmod(place, side)
        place = f"{self.options.zoom}/{2 * column}/{2 * row}"
        return f"/v1/tiles/{self.options.model}/{self.options.task}/{place}.png?source=world&bands={bands}&resampling={resampling}"

    def resident_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024

    async def passes(self):
        text = (await metrics(self.port)).splitlines()
        return sum(float(line.split()[-1]) for line in text if line.startswith("satlas_forward_seconds_count"))


async def metrics(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


def p99(values):
    return sorted(values)[int(len(values) * 0.99)] if values else float("nan")


async def one_by_one(server, seconds):
    """Cold tiles a second, one after the other."""
    started, done = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        status, *_ = await ask(server.port, server.cold())
        assert status == 200, status
        done += 1
    return done / (time.monotonic() - started)


async def probe(server, path, seconds, stop):
    while not stop.is_set():
        status, took, _ = await ask(server.port, path, source="127.0.1.1")
        seconds.append(took if status == 200 else float("inf"))
        await asyncio.sleep(0.1)


async def overload(server, rate):
    """Cold tiles at `rate` a second, whatever the server says, from several addresses."""
    options, results, tasks = server.options, [], []
    cached, health, memory, stop = [], [], [server.resident_mib()], asyncio.Event()
    probes = [asyncio.create_task(probe(server, path, found, stop)) for path, found in ((CACHED, cached), ("/health/ready", health))]
    passes = await server.passes()
    started = time.monotonic()

    async def one(source):
        results.append((*await ask(server.port, server.cold(), source, options.timeout + 5), time.monotonic() - started))

    for index in itertools.count():
        if (wait := started + index / rate - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if time.monotonic() - started > options.seconds:
            break
        tasks.append(asyncio.create_task(one(f"127.0.0.{2 + index % options.clients}")))
        if index % max(1, int(rate)) == 0:
            memory.append(server.resident_mib())
    stop.set()
    answered = [result for result in results if result[0] == 200]
    passes = await server.passes() - passes
    statuses = {status: sum(result[0] == status for result in results) for status in {result[0] for result in results}}
    retry = [int(re.search(r"(?i)retry-after: (\d+)", head)[1]) for status, _, head, _ in results if status == 429]
    refusals = [took for status, took, *_ in results if status == 429]
    await asyncio.gather(*probes)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "asked": len(tasks), "statuses": {str(status): count for status, count in sorted(statuses.items(), key=str)},
        "answers_per_s": len(answered) / options.seconds, "passes": passes,
        "median_answer_s": statistics.median([took for _, took, *_ in answered]) if answered else None,
        "median_refusal_s": statistics.median(refusals) if refusals else None,
        "retry_after_s": statistics.median(retry) if retry else None,
        "cached_p99_ms": p99(cached) * 1e3, "health_p99_ms": p99(health) * 1e3, "peak_mib": max(memory),
    }


def picture(side):
    """A grey square as npy."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': (3, {side}, {side}), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode() + bytes([127]) * (3 * side * side)


async def fairness(server):
    """Seconds for a cold tile: alone, beside a job, beside a job and eight uploads of scenes."""
    options, body = server.options, picture(server.options.side)
    path = f"/v1/predict/{options.model}/{options.task}"

    async def tile():
        times = []
        for _ in range(5):
            status, took, _ = await ask(server.port, server.cold(), "127.0.0.2")
            times.append(took if status == 200 else float("inf"))
            await asyncio.sleep(0.3)
        return {"median_s": statistics.median(times), "most_s": max(times)}

    found = {"alone": await tile()}
    await ask(server.port, path, body=body, headers="Prefer: respond-async\r\n")
    await asyncio.sleep(1)
    found["beside a job"] = await tile()
    uploads = [asyncio.create_task(ask(server.port, path, f"127.0.0.{10 + index}", body=body)) for index in range(8)]
    await asyncio.sleep(1)
    found["beside a job and 8 uploads"] = await tile()
    for upload in uploads:
        upload.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)
    return found


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", default="target/release/satlas-serve")
    parser.add_argument("--weights", default="offline", help="offline (the demo) or synthetic:SEED")
    parser.add_argument("--model", default="world")
    parser.add_argument("--task", default="water")
    parser.add_argument("--zoom", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=10, help="of what is done one by one")
    parser.add_argument("--timeout", type=int, default=20, help="seconds that the server gives a request")
    parser.add_argument("--clients", type=int, default=8, help="addresses that the requests come from")
    parser.add_argument("--side", type=int, default=2048, help="of the scenes for fairness, in pixels")
    options = parser.parse_args()
    async with Server(options) as server:
        before = await one_by_one(server, min(15, options.seconds))
        found = await overload(server, before * options.times)
    async with Server(options) as server:
        fair = await fairness(server)
    found["one_by_one_per_s"] = before
    found["answers_over_one_by_one"] = found["answers_per_s"] / before
    print(json.dumps({"load": found, "cold_tile": fair}, indent=1))


asyncio.run(main())
