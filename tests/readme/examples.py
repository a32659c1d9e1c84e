"""Runs the examples of README.md against the real server: `python3 tests/readme/examples.py target/release/satlas-serve`.

Only the standard library is used. The MapLibre page of the README is tested in tests/viewer, which has a browser.
"""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The address that the README writes; examples run against the server's own.
WRITTEN_ADDRESS = "http://127.0.0.1:8080"

# Longest an example may run, in seconds: an inference on a busy machine, and no hang.
EXAMPLE_TIMEOUT_S = 300


def blocks(language):
    """The code blocks of the README in a language."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block(language, part):
    """The one code block in a language that contains `part`."""
    found = [one for one in blocks(language) if part in one]
    assert len(found) == 1, f"{len(found)} blocks of {language} with {part!r} in README.md, needed 1"
    return found[0]


def fetch(url):
    """The body of an answer; anything but a success raises."""
    with urllib.request.urlopen(url, timeout=EXAMPLE_TIMEOUT_S) as answer:
        return answer.read()


def run(command, text, directory):
    """Runs a block in a directory; returns what it printed."""
    done = subprocess.run(command, input=text, cwd=directory, capture_output=True, text=True, timeout=EXAMPLE_TIMEOUT_S)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def curl_writes_a_geojson_and_a_geotiff(address, directory):
    run(["bash", "-euo", "pipefail"], block("sh", "--data-binary").replace(WRITTEN_ADDRESS, address), directory)
    crowns = json.loads((directory / "crowns.geojson").read_text(encoding="utf-8"))
    assert crowns["type"] == "FeatureCollection" and crowns["features"], crowns
    assert (directory / "elevation.tif").read_bytes()[:4] == b"II*\0"


def python_prints_trees_at_their_place(address, directory):
    printed = run([sys.executable, "-"], block("python", "urlopen").replace(WRITTEN_ADDRESS, address), directory)
    found = re.fullmatch(r"(\d+) trees, the first at \[(-?[\d.]+), (-?[\d.]+)\]\n", printed)
    assert found and int(found[1]) > 0, printed
    assert abs(float(found[2]) + 81.99) < 0.05 and abs(float(found[3]) - 29.69) < 0.05, printed


def the_url_for_qgis_is_that_of_the_tilejson(address, _directory):
    template = block("text", "{z}/{x}/{y}").strip().replace(WRITTEN_ADDRESS, address)
    path, query = template.removeprefix(address).split("?")
    tilejson = json.loads(fetch(f"{address}{path.removesuffix('{z}/{x}/{y}.png')}tilejson.json?{query}"))
    assert tilejson["tiles"] == [template], tilejson
    zooms = f"zoom levels {tilejson['minzoom']} to {tilejson['maxzoom']}"
    assert zooms in (ROOT / "README.md").read_text(encoding="utf-8"), f"README.md does not say {zooms!r}"
    tile = fetch(template.format(z=tilejson["minzoom"], x=0, y=0))
    assert tile.startswith(b"\x89PNG\r\n\x1a\n"), tile[:16]


def start(binary):
    """Starts the server on a free port; returns its process and its address."""
    # Everything it says goes to one pipe; logs may be coloured in the middle of a word.
    command = [binary, "--port", "0", "--weights", "offline"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in server.stdout:
        said.append(line)
        address = re.search(r"http://127\.0\.0\.1:\d+", re.sub(r"\x1b\[[0-9;]*m", "", line))
        if address:
            return server, address[0]
    raise SystemExit(f"{binary} named no address; it said:\n{''.join(said)}")


def main(binary):
    """Runs every example; a failed assertion ends with a traceback."""
    examples = [curl_writes_a_geojson_and_a_geotiff, python_prints_trees_at_their_place, the_url_for_qgis_is_that_of_the_tilejson]
    server, address = start(binary)
    try:
        for example in examples:
            with tempfile.TemporaryDirectory() as name:
                directory = Path(name)
                (directory / "static").symlink_to(ROOT / "static")
                example(address, directory)
            print(f"ok: {example.__name__}")
    finally:
        server.terminate()
        server.wait(timeout=60)
    print(f"{len(examples)} passed, 0 failed")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(str(Path(sys.argv[1]).resolve()))
