"""Two servers that share what clients register through PostgreSQL, which is killed meanwhile.

python3 tests/fleet/shared_registrations.py target/release/satlas-serve          about 15 s
"""

import json
import pathlib
import shutil
import sys
import tempfile
import time

from checks import check, until
from servers import Server
from services import Postgres

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]


def main(work):
    (work / "imagery").mkdir()
    shutil.copy(ROOT / "static/demo/trees_osbs.tif", work / "imagery/forest.tif")
    postgres = Postgres(work)
    url = postgres.url + "?sslmode=disable"
    arguments = ["--database-url", url, "--source-root", work / "imagery"]
    servers = [Server(PROGRAM, work, *arguments) for _ in range(2)]
    one, two = servers
    try:
        check(one.status("PUT", "/v1/sources/forest", {"path": "forest.tif", "title": "Forest"}) == 201, "a source is registered")
        began = time.monotonic()
        until(lambda: two.status("GET", "/v1/sources/forest") == 200, "the source at the other server")
        print(f"a source was seen by the other server after {time.monotonic() - began:.2f} s")
        check(json.loads(two.ask("GET", "/v1/sources/forest")[1])["title"] == "Forest", "its title")
        check(two.status("PUT", "/v1/sources/forest", {"path": "forest.tif"}) == 409, "an id that another server has given")
        check(two.status("PUT", "/v1/sources/none", {"path": "none.tif"}) == 400, "a file that is not there")

        model = {"id": "mine", "base": "world", "seed": 7, "heads": [{"task": "cover", "type": "segment", "categories": ["a", "b"]}]}
        check(two.status("POST", "/v1/models", model) == 201, "a model is registered")
        check(two.status("POST", "/v1/models", model) == 409, "its id is taken")
        tile = "/v1/tiles/mine/cover/3/4/3.png?source=world"
        until(lambda: one.status("GET", tile) == 200, "a tile of the model at the other server")
        check(one.ask("GET", tile)[1] == two.ask("GET", tile)[1], "the same tile at both")

        late = Server(PROGRAM, work, *arguments)
        servers.append(late)
        check(late.status("GET", "/v1/sources/forest") == 200 and late.status("GET", tile) == 200, "a server that starts later knows all")

        postgres.kill()
        check(one.status("GET", tile) == 200 and two.status("GET", "/v1/sources/forest") == 200, "what is known is served without the database")
        check(one.status("PUT", "/v1/sources/other", {"path": "forest.tif"}) == 503, "nothing is registered without it")
        check(one.status("DELETE", "/v1/sources/forest") == 503, "nothing is removed without it")
        alone = Server(PROGRAM, work, *arguments)
        servers.append(alone)
        check(alone.status("GET", "/v1/sources/world") == 200, "a server starts without the database")
        postgres.start()
        until(lambda: one.status("DELETE", "/v1/sources/forest") == 204, "the database to be back")
        until(lambda: two.status("GET", "/v1/sources/forest") == 404, "the removal at the other server")
        until(lambda: alone.status("GET", tile) == 200, "the model at the server that started alone")
        check(alone.status("DELETE", "/v1/models/mine") == 204, "any server removes a model")
        for server in servers:
            until(lambda: server.status("GET", "/v1/models/mine") == 404, "the removal of the model everywhere")
        check(one.status("PUT", "/v1/sources/forest", {"path": "forest.tif"}) == 201, "the id is free again")
        until(lambda: two.status("GET", "/v1/sources/forest") == 200, "the new source at the other server")
    finally:
        for server in servers:
            server.process.kill()
        postgres.stop()
    print("done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(pathlib.Path(folder))
