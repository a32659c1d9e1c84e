"""Generates clients from openapi/openapi.json, checks their types, and runs the round trip of each against the program.

Usage: check.py PROGRAM, in an environment with requirements.txt and, beside this file, node_modules of package-lock.json.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DOCUMENT = ROOT / "openapi" / "openapi.json"
RASTER = ROOT / "static" / "demo" / "trees_osbs.tif"
GENERATED = HERE / "generated"
PYTHON = GENERATED / "python"
KEY = "open-sesame"


def run(what: str, *command: str | Path, at: Path = HERE) -> None:
    """Runs a step, quietly unless it fails; its programs come first from this environment."""
    started = time.monotonic()
    path = f"{Path(sys.executable).parent}{os.pathsep}{HERE / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=at,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{what} failed with {done.returncode}")
    print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)


def generate(name: str, generator: str, at: Path, *properties: str) -> None:
    """Generates a client with openapi-generator, without the pages and tests that it would add."""
    pages = "--global-property=apiDocs=false,modelDocs=false,apiTests=false,modelTests=false"
    options = ("--additional-properties=" + ",".join(properties), "-g", generator, "-i", DOCUMENT, "-o", at)
    run(f"generate {name}", "openapi-generator-cli", "generate", pages, "--openapi-generator-ignore-list", "README.md", *options)


def python_clients(*arguments: str | Path) -> None:
    """Generates the Python clients, checks their types and runs the program of each."""
    package = GENERATED / "openapi_generator_python"
    generate("openapi-generator python", "python", package, "packageName=satlas_client")
    shutil.move(package / "satlas_client", PYTHON / "satlas_client")
    options = ("--meta", "none", "--output-path", PYTHON / "satlas", "--config", "openapi-python-client.yaml")
    run("generate openapi-python-client", "openapi-python-client", "generate", "--path", DOCUMENT, *options)
    programs = [Path(shutil.copy(program, PYTHON)) for program in sorted(HERE.glob("*_round_trip.py"))]
    run("mypy", "mypy", "--config-file", HERE / "mypy.ini", *programs, at=PYTHON)
    for program in programs:
        run(program.stem, sys.executable, program, *arguments, at=PYTHON)


def typescript_clients(*arguments: str | Path) -> None:
    """Generates the TypeScript clients, checks their types and runs the program of each."""
    generate("openapi-generator typescript-fetch", "typescript-fetch", GENERATED / "openapi_generator", "importFileExtension=.js")
    run("generate openapi-typescript", "openapi-typescript", DOCUMENT, "-o", GENERATED / "openapi_typescript.ts")
    run("generate hey-api", "openapi-ts")
    run("tsc", "tsc", "--project", ".")
    for name in ("openapi_generator", "openapi_fetch", "hey_api"):
        run(f"{name} round trip", "node", HERE / "built" / f"{name}.js", *arguments)


@contextlib.contextmanager
def server(program: str, *options: str) -> Iterator[str]:
    """A running server with the demo bundle; gives its address. Its log is shown."""
    child = subprocess.Popen([program, "--port", "0", "--weights", "synthetic:7", *options], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        address = re.search(r"http://\S+", line)
        if address is None:
            sys.exit(f"{program} named no address: {line!r}")
        yield address.group()
    finally:
        child.kill()
        child.communicate()


def check(program: str) -> None:
    """Checks the clients of both languages side by side."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    PYTHON.mkdir(parents=True)
    with server(program) as base, server(program, "--api-key", KEY) as keyed, ThreadPoolExecutor() as pool:
        for done in [pool.submit(language, base, keyed, KEY, RASTER) for language in (python_clients, typescript_clients)]:
            done.result()


if __name__ == "__main__":
    check(os.path.abspath(sys.argv[1]))
