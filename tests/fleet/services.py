"""PostgreSQL with pgmq and pgbouncer, each in a folder of its own, as an unprivileged user, on a free port."""

import glob
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

PGMQ = "0.33.7"
CERTIFICATES = pathlib.Path(__file__).resolve().parents[1] / "fixtures/tls"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def unprivileged():
    """Who runs the services: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise SystemExit("a user postgres or nobody is needed")


def pgmq_sql(work):
    """The SQL of pgmq, which the crate of that name brings. It is installed by users and is no part of this project."""
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    pattern = str(home / f"registry/src/*/pgmq-{PGMQ}/src/install/embedded/sql/pgmq.sql")
    if not glob.glob(pattern):
        scratch = work / "scratch"
        (scratch / "src").mkdir(parents=True)
        (scratch / "src/lib.rs").touch()
        (scratch / "Cargo.toml").write_text(
            f'[package]\nname = "scratch"\nversion = "0.0.0"\n[dependencies]\npgmq = "={PGMQ}"\n[workspace]\n'
        )
        subprocess.run(["cargo", "fetch", "--quiet"], cwd=scratch, check=True)
    return pathlib.Path(glob.glob(pattern)[0])


class Postgres:
    def __init__(self, work):
        versions = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        self.bin = pathlib.Path(versions[-1]) if versions else pathlib.Path(shutil.which("initdb")).parent
        self.user, self.root = unprivileged(), work / "postgres"
        self.root.mkdir()
        if self.user:
            # Temporary folders are their owner's alone, and the services' user has to pass.
            work.chmod(0o755)
            shutil.chown(self.root, self.user)
        self.data, self.port = self.root / "data", free_port()
        self._do("initdb", "-D", self.data, "-A", "trust", "-U", "satlas", "-E", "UTF8", "--locale=C")
        for name in ("server.pem", "server.key"):
            shutil.copy(CERTIFICATES / name, self.data / name)
            if self.user:
                shutil.chown(self.data / name, self.user)
            (self.data / name).chmod(0o600)
        self.start()
        self.sql(pgmq_sql(work).read_text())

    def _do(self, program, *arguments):
        log = open(self.root / "commands.log", "a")
        subprocess.run([self.bin / program, *arguments], user=self.user, cwd=self.root, check=True, stdout=log, stderr=log)

    def start(self):
        options = f"-p {self.port} -k {self.root} -c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file=server.pem -c ssl_key_file=server.key"
        self._do("pg_ctl", "-D", self.data, "-o", options, "-l", self.root / "log", "-w", "start")

    def kill(self):
        """As a crash: the postmaster and all its children at once."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True).stdout.split()
        for process in [postmaster, *map(int, children)]:
            try:
                os.kill(process, 9)
            except ProcessLookupError:
                pass
        # Until somebody has collected the postmaster, its number seems to be in use, and another does not start.
        end = time.monotonic() + 10
        for process in [*map(int, children), postmaster]:
            while os.path.exists(f"/proc/{process}") and (state(process) != "Z" or time.monotonic() < end):
                time.sleep(0.02)

    def stop(self):
        self._do("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def sql(self, text):
        """Runs statements; returns the last answer's rows as lists of texts."""
        command = ["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", self.url, "-f", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{text[:200]}: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    @property
    def url(self):
        return f"postgres://satlas@127.0.0.1:{self.port}/postgres"


class Pgbouncer:
    """In transaction mode, with few connections, so that every transaction gets another one."""

    def __init__(self, work, postgres):
        self.port, root = free_port(), work / "pgbouncer"
        root.mkdir()
        (root / "pgbouncer.ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={postgres.port} dbname=postgres user=satlas\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir = {root}\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nserver_login_retry = 1\n"
            f"logfile = {root}/log\npidfile = {root}/pid\n"
        )
        if postgres.user:
            shutil.chown(root, postgres.user)
        self.process = subprocess.Popen(
            [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", "-q", root / "pgbouncer.ini"], user=postgres.user, cwd=root
        )

    @property
    def url(self):
        return f"postgres://satlas@127.0.0.1:{self.port}/postgres"

    def stop(self):
        self.process.kill()
        self.process.wait()


def state(process):
    """The state letter of a process."""
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"
