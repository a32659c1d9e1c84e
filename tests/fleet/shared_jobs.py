"""Two servers and a worker that share area jobs through PostgreSQL, which is killed meanwhile.

python3 tests/fleet/shared_jobs.py target/release/satlas-serve          about 30 s
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from checks import check, until
from servers import Server
from services import Postgres

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
JOB = {"model": "world", "task": "water", "source": "world", "bbox": [-10, 25, 60, 44], "block_px": 512}
SMALL_JOB = {**JOB, "bbox": [0, 40, 10, 50]}
LONG_JOB = {**JOB, "bbox": [-60, 0, 60, 50], "pixel_size": 5000, "destination": "long"}


def post(server, job):
    status, headers, body = server.answer("POST", "/v1/jobs", job)
    check(status == 202, f"{job} was answered with {status}: {body}")
    return headers["Location"]


def done(server, job):
    """The description of a job once it is done."""

    def ended():
        status, body = server.ask("GET", job)
        found = json.loads(body)
        check(status == 200 and found["state"] in ("queued", "running", "done"), f"{job} is {found}")
        return found["state"] == "done" and found

    return until(ended, f"the end of {job}")


def rasters(folder):
    return {path.name: path.read_bytes() for path in (folder / "rasters").iterdir()}


def main(work):
    (work / "imagery").mkdir()
    shutil.copy(ROOT / "static/demo/trees_osbs.tif", work / "imagery/forest.tif")
    postgres = Postgres(work)
    shared = ["--database-url", postgres.url + "?sslmode=disable", "--source-root", work / "imagery"]
    servers = [Server(PROGRAM, work, *shared, "--result-root", work / "results") for _ in range(2)]
    one, two = servers
    try:
        first = post(one, {**JOB, "destination": "water/1"})
        waiting = two.document(first)
        check(waiting["state"] == "queued" and "satlas-serve worker" in waiting["note"], f"without a worker the job is {waiting}")
        check(waiting == one.document(first), "both servers say the same")
        # As after the death of every worker that began the first block.
        postgres.sql(f"UPDATE pgmq.q_satlas_{first.rsplit('-')[-1]} SET read_ct = 9 WHERE msg_id = 1")
        servers.append(Server(PROGRAM, work, *shared, "--lease", "3s", command="worker"))
        partly = done(two, first)
        check((partly["blocks"]["done"], partly["blocks"]["failed"]) == (1, 1), f"a block failed: {partly}")
        check("without a word" in partly["blocks"]["failures"][0]["reason"], f"its reason: {partly}")
        status, body = two.ask("POST", first + "/retry")
        check(status == 202, f"the block is tried again: {body}")
        whole = done(one, first)
        check((whole["blocks"]["done"], whole["blocks"]["failed"]) == (2, 0), f"all blocks are there: {whole}")
        report = two.document(whole["links"]["result"])
        check((report["state"], report["destination"]) == ("done", str(work / "results/water/1")), f"the report is {report}")

        # The source is registered at one server, the job posted at the other, and the worker was there before both.
        check(one.status("PUT", "/v1/sources/forest", {"path": "forest.tif"}) == 201, "a source is registered")
        until(lambda: two.status("GET", "/v1/sources/forest") == 200, "the source at the other server")
        box = two.document("/v1/sources/forest")["bounds"]
        crowns = {"model": "trees", "task": "tree_crown", "source": "forest", "bbox": box, "destination": "crowns"}
        second = done(two, post(two, crowns))
        check(one.status("GET", second["links"]["collection"]) == 200, "objects on a registered source")

        long_job = post(one, LONG_JOB)
        until(lambda: two.document(long_job)["blocks"]["in_work"] > 0, "a block in work")
        status, body = two.ask("DELETE", long_job)
        check((status, json.loads(body)["state"]) == (200, "cancelled"), f"a job is cancelled at the other server: {body}")
        check(one.document(long_job)["state"] == "cancelled", "the server that took it knows")

        one.kill()
        servers[0] = one = Server(PROGRAM, work, *shared, "--result-root", work / "results")
        ids = [job["id"] for job in one.document("/v1/jobs")["jobs"]]
        check(ids == ["shared-3", "shared-2", "shared-1"], f"a server that is started again lists {ids}")

        postgres.kill()
        status, headers, body = one.answer("POST", "/v1/jobs", {**SMALL_JOB, "destination": "small"})
        check(status == 503 and headers["Retry-After"], f"without the database a shared job is answered with {status}: {body}")
        check(two.status("GET", first) == 503, "without the database shared jobs are not known")
        own = done(one, post(one, SMALL_JOB))
        check(one.status("GET", own["links"]["result"]) == 200, "a job of the server's own is done without the database")
        listed = one.document("/v1/jobs")
        check([job["id"] for job in listed["jobs"]] == [own["id"]] and "database" in listed["unavailable"], f"the list says {listed}")
        check(two.status("GET", f"/v1/jobs/{own['id']}") == 404, "the other server does not know that job")
        postgres.start()
        until(lambda: two.status("GET", first) == 200, "the database to be back")
        small = post(one, {**SMALL_JOB, "destination": "small"})
        done(two, small)
        (work / "job.json").write_text(json.dumps(SMALL_JOB))
        quiet = [PROGRAM, "run", work / "job.json", "--destination", work / "quiet", "--quiet"]
        subprocess.run(quiet, check=True, stdout=subprocess.DEVNULL)
        expected = rasters(work / "quiet")
        check(expected and rasters(work / "results/small") == expected, "the blocks are those of a run without workers")
        for name, content in expected.items():
            check(two.ask("GET", f"{small}/files/rasters/{name}") == (200, content), "a server that did not take the job serves its blocks")

        check(one.status("DELETE", first) == 204 and two.status("GET", first) == 404, "a job that has ended is removed everywhere")
    finally:
        for server in servers:
            server.kill()
        postgres.stop()
    print("done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(pathlib.Path(folder))
