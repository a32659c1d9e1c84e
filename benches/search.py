"""How long a search takes beside NumPy and faiss-cpu, and how exact it is. Run it on a quiet machine:

    satlas-serve --data-dir DIR --max-upload-bytes 2GB
    python benches/search.py DIR [http://127.0.0.1:8080]

It sends a million random vectors of 128 dimensions, and compares the whole request over HTTP with the time of reading the index's bytes
once (all threads, by position, into small buffers), and with searches in memory. Needs numpy, requests and faiss-cpu.
"""

import io
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import requests

ROWS, DIMENSIONS, RESULTS, QUERIES = 1_000_000, 128, 100, 20
data_dir = sys.argv[1]
server = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8080"
random = np.random.default_rng(0)
vectors = random.standard_normal((ROWS, DIMENSIONS), dtype=np.float32)
queries = random.standard_normal((QUERIES, DIMENSIONS), dtype=np.float32)


def milliseconds(run):
    """The median over all queries."""
    times = []
    for query in queries:
        started = time.perf_counter()
        run(query)
        times.append((time.perf_counter() - started) * 1e3)
    return f"{np.median(times):.1f} ms"


body = io.BytesIO()
np.save(body, vectors)
requests.delete(f"{server}/v1/indexes/bench")
made = requests.post(f"{server}/v1/indexes?id=bench", data=body.getvalue(), headers={"Content-Type": "application/x-npy"})
made.raise_for_status()
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
session = requests.Session()


def search(query):
    example = {"vector": (query / np.linalg.norm(query)).tolist()}
    found = session.post(f"{server}/v1/indexes/bench/search", json={"positive": [example], "limit": RESULTS})
    found.raise_for_status()
    return {int(feature["id"]) for feature in found.json()["features"]}


codes = os.open(os.path.join(data_dir, "indexes", "bench", "vectors.i8"), os.O_RDONLY)
size, threads = os.fstat(codes).st_size, os.cpu_count()
buffers = [bytearray(1 << 17) for _ in range(threads)]
pool = ThreadPoolExecutor(threads)


def read(share):
    for offset in range(size * share // threads, size * (share + 1) // threads, 1 << 17):
        os.preadv(codes, [buffers[share]], offset)


exact = [set(np.argsort(-(unit @ query), kind="stable")[:RESULTS].tolist()) for query in queries]
recall = np.mean([len(search(query) & wanted) / RESULTS for query, wanted in zip(queries, exact)])
print("satlas-serve, over HTTP:", milliseconds(search), f"recall@{RESULTS} {recall:.4f}")
print("reading its codes once:", milliseconds(lambda _: list(pool.map(read, range(threads)))))
print("NumPy, f32:", milliseconds(lambda query: np.argpartition(-(unit @ query), RESULTS)[:RESULTS]))
flat = faiss.IndexFlatIP(DIMENSIONS)
flat.add(unit)
print("faiss-cpu, flat f32:", milliseconds(lambda query: flat.search(query[None], RESULTS)))
eight = faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
eight.train(unit[:100_000])
eight.add(unit)
found = [set(eight.search(query[None], RESULTS)[1][0].tolist()) for query in queries]
recall = np.mean([len(one & wanted) / RESULTS for one, wanted in zip(found, exact)])
print("faiss-cpu, flat 8 bits:", milliseconds(lambda query: eight.search(query[None], RESULTS)), f"recall@{RESULTS} {recall:.4f}")
