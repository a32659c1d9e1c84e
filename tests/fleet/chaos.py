"""Area jobs on several workers while things go wrong: nothing is lost, nothing is doubled, and the results are those of a quiet run.

python3 tests/fleet/chaos.py target/release/satlas-serve          about 90 s
python3 tests/fleet/chaos.py target/release/satlas-serve --long   also a million blocks, a full disk, wrong clocks, and the scale table

Linux, PostgreSQL, pgbouncer and cargo are needed; for the full disk root, for wrong clocks faketime.
"""

import argparse
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import checks
from checks import check
from services import Pgbouncer, Postgres

ROOT = pathlib.Path(__file__).resolve().parents[2]
JOB = {"model": "world", "task": "elevation", "source": "world", "bbox": [-60, 0, 60, 50], "pixel_size": 5000, "block_px": 512}
LEASE_S = 3
PATIENCE_S = 120
until = functools.partial(checks.until, patience_s=PATIENCE_S)


class Fleet:
    """The program, a folder, and the workers that run."""

    def __init__(self, program, work, url):
        self.program, self.work, self.url, self.workers = program, work, url, []

    def command(self, *arguments, **options):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, **options)
        check(done.returncode == 0, f"{arguments}: {done.stderr}")
        return done.stdout

    def quiet_run(self, name, job):
        (self.work / f"{name}.json").write_text(json.dumps(job))
        began = time.monotonic()
        self.command("run", self.work / f"{name}.json", "--destination", self.work / name, "--quiet")
        return time.monotonic() - began

    def submit(self, name, reference):
        """Submits the reference's job into a folder that has its plan: the time of planning is part of the results."""
        (self.work / name).mkdir()
        shutil.copy(self.work / reference / "plan.json", self.work / name / "plan.json")
        destination = self.work / name
        answer = self.command("submit", self.work / f"{reference}.json", "--database-url", self.url, "--destination", destination)
        return int(answer)

    def job(self, number):
        return json.loads(self.command("jobs", number, "--json", "--database-url", self.url))["job"]

    def worker(self, *prefix, threads=1, url=None, lease=LEASE_S):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "SATLAS_DATABASE_URL": url or self.url}
        log = open(self.work / f"worker-{len(self.workers)}.log", "w")
        arguments = ["worker", "--port", "0", "--lease", f"{lease}s"]
        process = subprocess.Popen([*prefix, self.program, *arguments], env=environment, stdout=subprocess.PIPE, stderr=log)
        process.log = pathlib.Path(log.name)
        process.address = process.stdout.readline().decode().strip().rsplit(" ", 1)[-1]
        check(process.address.startswith("http"), f"a worker did not start: {process.log.read_text()}")
        self.workers.append(process)
        return process

    def end(self, worker):
        """SIGTERM; returns how long it took."""
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        check(worker.wait(PATIENCE_S) == 0, f"a worker ended with {worker.returncode}: {worker.log.read_text()}")
        return time.monotonic() - began

    def end_all(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()


def answers(url):
    return subprocess.run(["psql", "-X", "-q", url, "-c", "SELECT 1"], capture_output=True).returncode == 0


def get(worker, path):
    try:
        with urllib.request.urlopen(worker.address + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, ""


def metric(worker, name):
    """The sum of a metric over its labels."""
    _, text = get(worker, "/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def files(folder):
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(name): (folder / name).read_bytes() for name in names if str(name) != "report.json"}


def same(fleet, name, reference):
    found, expected = files(fleet.work / name), files(fleet.work / reference)
    check(found.keys() == expected.keys(), f"{name}: {sorted(found.keys() ^ expected.keys())[:5]} differ")
    differing = [key for key in found if found[key] != expected[key]]
    check(not differing, f"{name}: {differing[:5]} have other bytes")


def done(fleet, number, blocks):
    job = until(lambda: (found := fleet.job(number))["state"] != "running" and found, "the end of a job")
    check((job["state"], job["done"], job["failed"]) == ("done", blocks, 0), f"the job ended as {job}")


def in_work(fleet, number, least=1):
    until(lambda: fleet.job(number)["in_work"] >= least, f"{least} blocks in work")


def chaos(fleet, postgres, blocks):
    """Workers are killed, frozen and stopped, and so is the database, while one job is done through pgbouncer."""
    number = fleet.submit("chaos", "quiet")
    killed, frozen, stopped = (fleet.worker() for _ in range(3))
    until(lambda: get(killed, "/health/ready")[0] == 200, "a ready worker")
    in_work(fleet, number, 2)
    killed.kill()
    killed.wait()
    in_work(fleet, number)
    frozen.send_signal(signal.SIGSTOP)
    fleet.worker()
    time.sleep(LEASE_S + 1)
    frozen.send_signal(signal.SIGCONT)
    took = fleet.end(stopped)
    check(took < 3, f"SIGTERM took {took:.1f} s")
    in_work(fleet, number)
    postgres.kill()
    time.sleep(2)
    postgres.start()
    # pgbouncer tries again after a while, and a worker that finds no database does not start.
    until(lambda: answers(fleet.url), "the database")
    fleet.worker()
    again = fleet.workers[-2]
    in_work(fleet, number)
    again.kill()
    again.wait()
    done(fleet, number, blocks)
    same(fleet, "chaos", "quiet")
    lost = sum("its lease has ended" in worker.log.read_text() for worker in fleet.workers)
    left = postgres.sql(f"SELECT count(*) FROM pgmq.meta WHERE queue_name = 'satlas_{number}'")
    check(left == [["0"]], "the queue of a job that is done is still there")
    print(f"chaos: {blocks} blocks done once, byte for byte those of the quiet run; {lost} workers gave leases up")


def handed_back(fleet, number):
    """A worker that is told to stop leaves its blocks to the next one at once, and they count as not begun."""
    worker = fleet.worker(lease=600)
    in_work(fleet, number, 2)
    took = fleet.end(worker)
    check(fleet.job(number)["in_work"] == 0, "a block stayed with a worker that was stopped")
    print(f"SIGTERM: two blocks handed back, exit 0 after {took:.2f} s")


def cancelled(fleet, postgres):
    number = fleet.submit("cancelled", "quiet")
    handed_back(fleet, number)
    others = len(postgres.sql(f"SELECT msg_id FROM pgmq.read('satlas_{number}', 600, 98)"))
    worker = fleet.worker()
    # Those of nobody stay leased; this one takes what is left, or finds nothing.
    time.sleep(2)
    leased = fleet.job(number)["in_work"]
    check(leased >= min(others, 98), f"{leased} leases are out")
    fleet.command("jobs", "--cancel", number, "--database-url", fleet.url)
    check(fleet.job(number)["state"] == "cancelled", "the job is not cancelled")
    time.sleep(LEASE_S)
    before = files(fleet.work / "cancelled")
    time.sleep(2)
    check(files(fleet.work / "cancelled") == before, "a cancelled job still gets files")
    check(get(worker, "/health/ready")[0] == 200, "the worker is not ready any more")
    fleet.end(worker)
    print(f"cancel: with {leased} leases out, nothing was written after the next renewal")


def left_to_others(fleet):
    """A worker without the job's source leaves it to others, and says so once."""
    number = fleet.submit("left", "small")
    stranger = fleet.worker("env", "SATLAS_NO_DEMO=true")
    until(lambda: "left to other workers" in stranger.log.read_text(), "a warning")
    time.sleep(2)
    check(fleet.job(number)["in_work"] == 0, "a worker took a block that it cannot do")
    fleet.worker()
    done(fleet, number, blocks_of(fleet, "small"))
    same(fleet, "left", "small")
    check(stranger.log.read_text().count("left to other workers") == 1, "the warning was repeated")
    fleet.end(stranger)
    print("a worker that cannot do a job left it to another, with one warning")


def over_tls(fleet, postgres):
    """A certificate is asked for and checked."""
    url = postgres.url + "?sslmode=require"
    command = [fleet.program, "jobs", "--database-url", url]
    authority = ROOT / "tests/fixtures/tls/authority.pem"
    trusting = subprocess.run(command, env={**os.environ, "SSL_CERT_FILE": authority}, capture_output=True, text=True)
    check(trusting.returncode == 0, f"TLS: {trusting.stderr}")
    other = subprocess.run(command, capture_output=True, text=True)
    check(other.returncode == 1 and "SSL_CERT_FILE names" in other.stderr, f"TLS with an unknown authority: {other.stderr}")
    print("TLS: the certificate is checked")


def blocks_of(fleet, reference):
    return len(json.loads((fleet.work / reference / "plan.json").read_text())["blocks"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    # Ends the services too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="satlas-fleet-") as folder:
        work = pathlib.Path(folder)
        postgres = Postgres(work)
        bouncer = Pgbouncer(work, postgres)
        fleet = Fleet(arguments.program.resolve(), work, bouncer.url)
        try:
            seconds = fleet.quiet_run("quiet", JOB)
            blocks = blocks_of(fleet, "quiet")
            print(f"quiet: {blocks} blocks in {seconds:.1f} s")
            fleet.quiet_run("small", {**JOB, "bbox": [-10, 25, 60, 44]})
            chaos(fleet, postgres, blocks)
            fleet.end_all()
            cancelled(fleet, postgres)
            left_to_others(fleet)
            over_tls(fleet, postgres)
            if arguments.long:
                import long_form

                long_form.run(fleet, postgres, bouncer, blocks)
        finally:
            fleet.end_all()
            bouncer.stop()
            postgres.stop()
    print(f"passed in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
