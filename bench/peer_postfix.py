"""Postfix as a relay to the sink: bare, or with rspamd.

    python -m bench.peer_postfix start --folder F --port 2525 --sink-port 2626 [--variant plain|rspamd]

Postfix keeps its shipped queueing: every accepted message is fsynced into the queue before the 250.  All names are
looked up nowhere (disable_dns_lookups, no peer names); the next hop is an address literal.

  plain    smtpd -> cleanup -> queue -> smtp.  The floor: no scanning at all.
  rspamd   smtpd_milters to rspamd's proxy worker in self-scan mode, local modules and symbols on; what needs the
           network or redis is off (see RSPAMD_OFF) and DNS goes to a local resolver that answers NXDOMAIN.
"""

import os
import shutil
import subprocess
import sys
import time

from bench import peerlib
from bench.peerlib import PATH, apt, spawn, wait_banner, wait_port, write

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = gate.example.com
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink_port}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_host_lookup = native
alias_maps =
alias_database =
local_recipient_maps =
message_size_limit = 60000000
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
smtpd_tls_security_level = {tls}
smtpd_tls_chain_files = {chain}
{more}
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
pickup    unix n - n 60 1 pickup
postlog   unix-dgram n - n - 1 postlogd
"""

# Modules that need the network, redis, or an outside service
RSPAMD_OFF = [
    "rbl",
    "surbl",
    "spf",
    "dkim",
    "dkim_signing",
    "arc",
    "dmarc",
    "bimi",
    "asn",
    "fuzzy_check",
    "mx_check",
    "url_redirector",
    "greylist",
    "ratelimit",
    "replies",
    "reputation",
    "neural",
    "history_redis",
    "p0f",
    "dcc",
    "clickhouse",
    "elastic",
    "aws_s3",
    "external_services",
    "antivirus",
    "metadata_exporter",
    "metric_exporter",
    "rspamd_update",
    "known_senders",
]


RSPAMD_MILTER = """\
smtpd_milters = inet:127.0.0.1:{port}
milter_protocol = 6
milter_default_action = tempfail
"""

# It never rejects, so that every message goes through.
RSPAMD_FILES = {
    "options.inc": """\
dns {{ nameserver = ["127.0.0.1:{dns}"]; timeout = 0.5s; retransmits = 1; }}
local_addrs = [];
""",
    "logging.inc": 'type = "file"; filename = "{folder}/log/rspamd.log"; level = "notice";\n',
    "worker-proxy.inc": """\
bind_socket = "127.0.0.1:{port}"; milter = yes; timeout = 120s; count = 2;
upstream "local" {{ default = yes; self_scan = yes; }}
""",
    "worker-normal.inc": "enabled = false;\n",
    "actions.conf": "reject = null; greylist = null; rewrite_subject = null; add_header = 6;\n",
    "phishing.conf": "openphish_enabled = false; phishtank_enabled = false;\n",
}


class Postfix(peerlib.Peer):
    """One Postfix instance with its own folders, and rspamd beside it in the variant `rspamd`."""

    def __init__(self, folder, port, sink_port, variant="plain", tls=None):
        super().__init__(folder, port, sink_port)
        self.variant, self.tls = variant, tls
        self.rspamd_port, self.dns_port = port + 3, port + 4

    def install(self):
        apt("postfix", program="postfix")
        if self.variant == "rspamd":
            apt("rspamd", program="rspamd")

    def configure(self):
        more = RSPAMD_MILTER.format(port=self.rspamd_port) if self.variant == "rspamd" else ""
        chain = f"{os.path.abspath(self.tls[1])}, {os.path.abspath(self.tls[0])}" if self.tls else ""
        values = {
            "folder": self.folder,
            "port": self.port,
            "sink_port": self.sink_port,
            "more": more,
            "tls": "may" if self.tls else "none",
            "chain": chain,
        }
        write(self.folder / "etc/main.cf", MAIN.format(**values))
        write(self.folder / "etc/master.cf", MASTER.format(**values))
        for name in ("log", "queue", "data"):
            (self.folder / name).mkdir(exist_ok=True)
        shutil.chown(self.folder / "data", "postfix", "postfix")
        if self.variant == "rspamd":
            self.configure_rspamd()

    def configure_rspamd(self):
        """Write rspamd's local settings and the folders that it may write to."""
        local = self.folder / "etc/rspamd/local.d"
        for name, text in RSPAMD_FILES.items():
            write(local / name, text.format(folder=self.folder, port=self.rspamd_port, dns=self.dns_port))
        write(local / "worker-controller.inc", f'bind_socket = "127.0.0.1:{self.dns_port + 1}";\n')
        for module in RSPAMD_OFF:
            write(local / f"{module}.conf", "enabled = false;\n")
        for name in ("db", "run"):
            (self.folder / "rspamd" / name).mkdir(parents=True, exist_ok=True)
            shutil.chown(self.folder / "rspamd" / name, "_rspamd", "_rspamd")
        log = self.folder / "log/rspamd.log"
        log.touch()
        shutil.chown(log, "_rspamd", "_rspamd")

    def launch(self):
        self.pids = []
        if self.variant == "rspamd":
            self.launch_rspamd()
        env = dict(os.environ, PATH=PATH)
        command = ["postfix", "-c", str(self.folder / "etc"), "start"]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_banner(self.port, log=self.folder / "log/mail.log")
        self.pids.append(int((self.folder / "queue/pid/master.pid").read_text()))

    def launch_rspamd(self):
        """Start rspamd and its resolver, and wait until its proxy listens."""
        # The resolver is part of the offline set-up, not of the peer: its pid is kept apart.
        command = [sys.executable, "-m", "bench.nulldns", self.dns_port]
        write(self.folder / "helper.pid", str(spawn(command, self.folder / "log/dns.out")))
        folders = {
            "LOCAL_CONFDIR": self.folder / "etc/rspamd",
            "DBDIR": self.folder / "rspamd/db",
            "RUNDIR": self.folder / "rspamd/run",
            "LOGDIR": self.folder / "log",
        }
        command = ["rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "/etc/rspamd/rspamd.conf"]
        command += [f"--var={name}={path}" for name, path in folders.items()]
        self.pids.append(spawn(command, self.folder / "log/rspamd.out"))
        wait_port(self.rspamd_port)
        time.sleep(8)  # regular expressions are compiled and cached in the background

    def stop(self):
        super().stop()
        helper = self.folder / "helper.pid"
        if helper.exists():
            peerlib.stop_pid(int(helper.read_text()))
            helper.unlink()


def main():
    """Start or stop by command line."""

    def make(args):
        tls = (args.certificate, args.key) if args.certificate else None
        return Postfix(args.folder, args.port, args.sink_port, args.variant, tls)

    return peerlib.command_line(make, __doc__, ["plain", "rspamd"])


if __name__ == "__main__":
    sys.exit(main())
