"""Runs an area job on a Ray cluster, a share of its blocks per task:

    python area.py JOB.json SHARES

All nodes need the program and see the job and its destination under the same names. A task that fails is started again and goes on with
the blocks that are missing.
"""

import json
import os
import subprocess
import sys

import ray


@ray.remote(num_cpus=int(os.environ.get("SATLAS_CPUS", "4")), max_retries=3, retry_exceptions=True)
def run(job: str, share: str) -> dict:
    command = [os.environ.get("SATLAS_SERVE", "satlas-serve"), "run", job, "--shard", share, "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"share {share}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def main() -> None:
    job, shares = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    environment = {name: value for name, value in os.environ.items() if name.startswith(("SATLAS_", "AWS_", "AZURE_", "GOOGLE_"))}
    ray.init(runtime_env={"env_vars": environment})
    reports = ray.get([run.remote(job, f"{number}/{shares}") for number in range(1, shares + 1)])
    for report in reports:
        print(json.dumps(report))
    print(f"{sum(report['made'] for report in reports)} blocks made, {reports[0]['blocks']} in all")


main()
