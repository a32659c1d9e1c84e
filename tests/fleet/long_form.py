"""What chaos.py checks with --long beyond its short form, and the figures of src/fleet/README.md."""

import os
import pathlib
import shutil
import subprocess
import time

import chaos


def run(fleet, postgres, bouncer, blocks):
    full_disk(fleet)
    wrong_clocks(fleet)
    million(postgres)
    scale(fleet, blocks)


def full_disk(fleet):
    """Blocks that find no room are handed back until there is some."""
    if os.getuid() != 0:
        print("SKIPPED: a full disk, as only root may mount one")
        return
    folder = fleet.work / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=True)
    try:
        # `submit` makes the folder below.
        number = fleet.submit("full/out", "small")
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        worker = fleet.worker()
        # A worker that cannot even look at the plan looks again after a minute.
        waits = ("is handed back", "left to other workers")
        chaos.until(lambda: any(text in worker.log.read_text() for text in waits), "a block that finds no room")
        time.sleep(8)
        job = fleet.job(number)
        chaos.check((job["state"], job["failed"]) == ("running", 0), f"a full disk ended the job as {job}")
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        chaos.done(fleet, number, chaos.blocks_of(fleet, "small"))
        chaos.same(fleet, "full/out", "small")
        fleet.end(worker)
    finally:
        subprocess.run(["umount", folder], check=True)
    print("full disk: blocks waited for room, and none failed")


def wrong_clocks(fleet):
    """Two hours early and two hours late."""
    if not shutil.which("faketime"):
        print("SKIPPED: wrong clocks, as faketime is missing")
        return
    number = fleet.submit("clocks", "quiet")
    for shift in ("+2h", "-2h"):
        fleet.worker("env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "faketime", "-f", shift)
    chaos.done(fleet, number, chaos.blocks_of(fleet, "quiet"))
    chaos.same(fleet, "clocks", "quiet")
    lost = sum("its lease has ended" in worker.log.read_text() for worker in fleet.workers[-2:])
    chaos.check(lost == 0, f"{lost} leases were lost to wrong clocks")
    fleet.end_all()
    print("wrong clocks: no lease was lost by workers two hours early and late")


def million(postgres):
    """A million blocks in one transaction, and turns of the queue with them in it. By now the server speaks TLS, with a certificate that
    nobody else trusts."""
    environment = {**os.environ, "SATLAS_TEST_DATABASE_URL": f"{postgres.url}?sslmode=disable", "SATLAS_TEST_BLOCKS": "1000000"}
    command = ["cargo", "test", "--release", "--locked", "--test", "fleet_queue", "--", "--nocapture", "a_large_job"]
    done = subprocess.run(command, cwd=chaos.ROOT, env=environment, capture_output=True, text=True)
    chaos.check(done.returncode == 0, done.stdout + done.stderr)
    print("\n".join(line for line in done.stdout.splitlines() if "blocks" in line or "turns" in line))


def scale(fleet, blocks):
    """1, 2 and 4 workers on the same number of threads."""
    print("| workers | threads of each | blocks/s | queue: seconds per block | share of a block's time |")
    print("| --- | --- | --- | --- | --- |")
    for count in (1, 2, 4):
        name = f"scale-{count}"
        workers = [fleet.worker(threads=4 // count, lease=30) for _ in range(count)]
        time.sleep(2)
        idle = sum(chaos.metric(worker, "satlas_fleet_queue_seconds_sum") for worker in workers)
        number = fleet.submit(name, "quiet")
        chaos.done(fleet, number, blocks)
        queue = sum(chaos.metric(worker, "satlas_fleet_queue_seconds_sum") for worker in workers) - idle
        spent = sum(chaos.metric(worker, "satlas_fleet_block_seconds_sum") for worker in workers)
        chaos.same(fleet, name, "quiet")
        rate = fleet.job(number)["rate"]
        print(f"| {count} | {4 // count} | {rate:.2f} | {queue / blocks:.4f} | {100 * queue / spent:.2f} % |")
        fleet.end_all()
