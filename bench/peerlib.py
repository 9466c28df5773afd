"""What the peer set-ups share: installing, starting, waiting, stopping by pid."""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

from bench.measure import tree

PROJECT = pathlib.Path(__file__).resolve().parent.parent
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def which(name):
    """Return the path of a program, administrators' folders included, or None."""
    return shutil.which(name, path=PATH)


def apt(*packages, program):
    """Install Debian packages unless `program` is there already (service start-up is left to policy-rc.d)."""
    if which(program):
        return
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    if "postfix" in packages:
        subprocess.run(
            ["debconf-set-selections"],
            input="postfix postfix/main_mailer_type select No configuration\n",
            text=True,
            check=False,
        )
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *packages]
    if subprocess.run(command, env=env, stdout=subprocess.DEVNULL).returncode:
        subprocess.run(["apt-get", "update"], env=env, stdout=subprocess.DEVNULL, check=True)
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)


def write(path, text):
    """Write a file and its folders; returns the path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def spawn(command, log, env=None):
    """Start a process in a session of its own, in the project's folder, output into `log`; returns its pid."""
    pathlib.Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        return subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(os.environ, PATH=PATH, **(env or {})),
            cwd=PROJECT,
            start_new_session=True,
        ).pid


def listening(port, kind=socket.SOCK_STREAM):
    """Say whether something accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def is_free(port):
    """Say whether nothing listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_block(size):
    """Return the first of `size` ports in a row that are free, below the range that clients get theirs from."""
    while True:
        first = random.randrange(20000, 32000 - size)
        if all(map(is_free, range(first, first + size))):
            return first


def wait_banner(port, seconds=60, log=None):
    """Wait until the SMTP server there greets; SystemExit with the end of the log when it does not."""
    end = time.time() + seconds
    while time.time() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as s:
                s.settimeout(5)
                if s.recv(512).startswith(b"220"):
                    s.sendall(b"QUIT\r\n")
                    return
        except OSError:
            pass
        time.sleep(0.2)
    tail = pathlib.Path(log).read_text(errors="replace")[-3000:] if log and os.path.exists(log) else ""
    raise SystemExit(f"no SMTP greeting on port {port} after {seconds} s\n{tail}")


def start_sink(port, control, log, seconds=7200):
    """Start the sink and wait for its control port; it ends by QUIT there, or after so many seconds."""
    arguments = ["--port", port, "--control", control, "--max-seconds", seconds]
    spawn([sys.executable, "-m", "bench.sink", *arguments], log)
    wait_port(control)


def wait_port(port, seconds=60):
    """Wait until something listens there."""
    end = time.time() + seconds
    while time.time() < end:
        if listening(port):
            return
        time.sleep(0.2)
    raise SystemExit(f"nothing listens on port {port} after {seconds} s")


def alive(pid):
    """Say whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def stop_pid(pid, seconds=15):
    """Send TERM, then KILL after a while; then to any child left behind."""
    family = tree([pid])
    for sign, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5)):
        for p in [pid] if sign == signal.SIGTERM else family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, sign)
        end = time.time() + patience
        while time.time() < end and any(alive(p) for p in family):
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        if not any(alive(p) for p in family):
            return


class Peer:
    """A peer set-up: a folder with its files; start() gives root pids, stop() ends them."""

    name = "peer"
    port = 0

    def __init__(self, folder, port, sink_port):
        self.folder, self.port, self.sink_port = pathlib.Path(folder).resolve(), port, sink_port
        self.pids: list[int] = []

    def install(self):
        """Bring in what is missing; nothing by default."""

    def configure(self):
        """Write the peer's files; nothing by default."""

    def launch(self):
        """Start the peer and put the roots of its process trees into `pids`."""
        raise NotImplementedError

    def start(self):
        """Install, configure, launch; on failure stop what was begun."""
        self.install()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.configure()
        try:
            self.launch()
        except BaseException:
            self.stop()
            raise
        write(self.folder / "pids.json", json.dumps(self.pids))
        return self.pids

    def stop(self):
        """End the peer, also one that an earlier process started in the same folder."""
        if not self.pids and (self.folder / "pids.json").exists():
            self.pids = json.loads((self.folder / "pids.json").read_text())
        for pid in self.pids:
            stop_pid(pid)
        (self.folder / "pids.json").unlink(missing_ok=True)
        self.pids = []


def command_line(make, doc, variants=None):
    """Run `start` or `stop` of one peer script; prints the pids that measure.py wants."""
    p = argparse.ArgumentParser(description=doc.split("\n")[0])
    p.add_argument("action", choices=("start", "stop"))
    p.add_argument("--folder", required=True, help="the peer's files: configuration, queue, log")
    p.add_argument("--port", type=int, default=2525)
    p.add_argument("--sink-port", type=int, default=2626)
    p.add_argument("--certificate", help="Postfix: offer STARTTLS with this PEM certificate")
    p.add_argument("--key", help="its key")
    if variants:
        p.add_argument("--variant", choices=variants, default=variants[0])
    args = p.parse_args()
    peer = make(args)
    if args.action == "start":
        pids = peer.start()
        print(" ".join(f"--pid {x}" for x in pids))
    else:
        peer.stop()
    return 0
