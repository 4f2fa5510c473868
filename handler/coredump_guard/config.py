"""The guard's configuration: guard.conf and guard.conf.d/*.conf, read once into a frozen Config.

Later files win, as systemd does it. Not here: the pod's own wishes, which come with the crash.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from coredump_guard import pattern, store

DEFAULT_PATH = "/etc/coredump-guard/guard.conf"
_LAST_GOOD = "settings.json"
_GLOB = re.compile(r"[-a-z0-9*?!\[\]]+\Z")
_SIZE = re.compile(r"(\d{1,15})([KMGT])?i?B?\Z", re.ASCII)
MODES = ("auto", "pipe", "socket")
HOST_CRASHES = ("chain", "keep", "drop")
UNLIMITED = sys.maxsize
"""What a size is that sets no bound."""


class ConfigError(ValueError):
    """A setting that cannot be; the message names file, section, key and remedy."""


@dataclass(frozen=True)
class Config:
    """Everything that can be set; the comments in SETTINGS say what each means."""

    path: str
    """The file this came from."""
    node: str
    mode: str
    workers: int
    deadline: float
    spool: str
    state: str
    runtime: str
    interpreter: str
    host_crashes: str
    setuid: bool
    spool_size: int
    spool_free: int
    spool_share: int
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    largest_core: int
    loop_newest: int
    loop_window: float
    environ: bool
    log_size: int
    executables: bool
    largest_executable: int
    store: str
    group: int
    quota: int

    @property
    def doorman(self) -> str:
        """The link to the doorman that core_pattern names."""
        return f"{self.runtime}/{pattern.DOORMAN}"

    @property
    def guard_socket(self) -> str:
        """Where doormen and `coredump-guard status` find the guard."""
        return f"{self.runtime}/guard.sock"

    @property
    def kernel_socket(self) -> str:
        """Where the kernel connects to in socket mode."""
        return f"{self.runtime}/{pattern.KERNEL_SOCKET}"


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError("must be an absolute path, on one line")
    return os.path.normpath(text)


def _runtime(text: str) -> str:
    if not os.path.basename(_path(text)).startswith(pattern.RUNTIME_PREFIX) or " " in text:
        raise ValueError(f"its last part must begin with {pattern.RUNTIME_PREFIX} and hold no space")
    return _path(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def _switch(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _globs(text: str) -> tuple[str, ...]:
    """Read patterns of namespaces' names; the characters are those of the names, and fnmatch(3)'s."""
    globs = tuple(text.replace(",", " ").split())
    for glob in globs:
        if not _GLOB.match(glob):
            raise ValueError(f"{glob} can be no namespace's name: a-z, 0-9, '-', and the wildcards * ? [ ]")
    return globs


def _size(text: str) -> int:
    if text == "unlimited":
        return UNLIMITED
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("must be a size such as 500M, 10G, 0 or unlimited")
    return int(match[1]) << 10 * " KMGT".index(match[2] or " ")


def _node(text: str) -> str:
    if not store.is_pod(text.lower()):
        raise ValueError("must be a host name: letters, digits, '-' and '.'")
    return text


def _between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _group(text: str) -> int:
    import grp  # noqa: PLC0415 # not on the way of a crash: most installations leave it out

    if text == "":
        return -1
    if text.isdigit():
        return _between(0, (1 << 32) - 2)(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError("is not a group of this machine") from None


SETTINGS: dict[tuple[str, str], tuple[str | None, Callable[[str], Any]]] = {
    # This node's name in records and in the store; the inventory's name of the host.
    ("guard", "node"): (socket.gethostname(), _node),
    # The door: pipe works everywhere, socket needs Linux 6.17, auto takes the socket where it is.
    ("guard", "mode"): ("auto", _one_of(*MODES)),
    # Captures at once. More than four only make each of them slower.
    ("guard", "workers"): ("2", _between(1, 16)),
    # Seconds that one capture may take; what is there then is kept and marked as truncated.
    ("guard", "deadline"): ("600", _between(1, 86400)),
    ("guard", "spool"): ("/var/lib/coredump-guard/spool", _path),
    # Where the original core_pattern is remembered.
    ("guard", "state"): ("/var/lib/coredump-guard", _path),
    ("guard", "runtime"): ("/run/coredump-guard", _runtime),
    # The Python that the kernel starts for the doorman.
    ("guard", "interpreter"): (os.path.realpath(sys.executable), _path),
    # What the spool may take of the disk, and what must stay free there: a core that does not fit is refused.
    ("spool", "size"): ("20G", _size),
    ("spool", "keep_free"): ("2G", _size),
    # Per cent of the spool that one namespace may fill while the store is away.
    ("spool", "share"): ("50", _between(1, 100)),
    # Crashes of the node's own processes: chain to what was there before us, keep, or drop.
    ("policy", "host_crashes"): ("chain", _one_of(*HOST_CRASHES)),
    # Whether processes that changed their ids are dumped too (fs.suid_dumpable = 2), for root's eyes.
    ("policy", "setuid"): ("yes", _switch),
    # Namespaces whose cores are kept; a pod elsewhere may ask for it with COREDUMP_CAPTURE=always.
    ("policy", "allow"): ("*", _globs),
    # Namespaces whose cores are never kept, whatever else says so.
    ("policy", "deny"): ("", _globs),
    # Largest core that is kept, uncompressed; 0 keeps records only.
    ("policy", "largest_core"): ("unlimited", _size),
    # A crash loop keeps its first core and the newest so many, one in loop_window / loop_newest seconds.
    ("policy", "loop_newest"): ("3", _between(0, 1000)),
    # Seconds without a crash after which a container's crash loop is over.
    ("policy", "loop_window"): ("3600", _between(1, 604800)),
    # Whether the environment is copied, which often holds passwords.
    ("metadata", "environ"): ("no", _switch),
    # How much of the end of the container's log is copied; 0 copies none.
    ("metadata", "log"): ("64K", _size),
    # Whether executables and libraries are stored, once for each build-id, and how large each may be.
    ("metadata", "executables"): ("yes", _switch),
    ("metadata", "largest_executable"): ("512M", _size),
    # The shared directory where dumps are delivered to.
    ("store", "path"): (None, _path),
    # Group that may read dumps in the store, for a shim that is not root.
    ("store", "group"): ("", _group),
    # What the dumps of one namespace may take of the store.
    ("store", "quota"): ("unlimited", _size),
}
"""Section and key to default (None: must be given) and parser."""

_FIELDS = {
    ("store", "path"): "store",
    ("spool", "size"): "spool_size",
    ("spool", "keep_free"): "spool_free",
    ("spool", "share"): "spool_share",
    ("metadata", "log"): "log_size",
}


def load(path: str = DEFAULT_PATH) -> Config:
    """Read path and, after it, path.d/*.conf in the order of their names.

    Raises ConfigError.
    """
    directory = f"{path}.d"
    extra = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    given: dict[tuple[str, str], tuple[str, str]] = {}
    for file in [path, *(f"{directory}/{name}" for name in extra if name.endswith(".conf"))]:
        given.update(_read(file))
    values: dict[str, Any] = {}
    for (section, key), (default, parse) in SETTINGS.items():
        file, text = given.get((section, key), (path, default))
        if text is None:
            raise ConfigError(f"{file}: [{section}] {key} is missing: add '{key} = …' there")
        try:
            values[_FIELDS.get((section, key), key)] = parse(text)
        except ValueError as error:
            raise ConfigError(f"{file}: [{section}] {key} = {text}: {error}") from None
    return Config(path=os.path.abspath(path), **values)


def keep(config: Config) -> None:
    """Remember a configuration that is in use, for doormen who find the file broken."""
    os.makedirs(config.runtime, 0o755, exist_ok=True)
    path = f"{config.runtime}/{_LAST_GOOD}"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(asdict(config), file)
    os.replace(f"{path}.new", path)


def last_good(runtime: str) -> Config:
    """Return what `keep` remembered; raises OSError if it remembered nothing."""
    with open(f"{runtime}/{_LAST_GOOD}", encoding="utf-8") as file:
        values: dict[str, Any] = json.load(file)
    values.update({key: tuple(values[key]) for key in ("allow", "deny")})
    return Config(**values)


def _read(file: str) -> dict[tuple[str, str], tuple[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",), default_section="")
    try:
        with open(file, encoding="utf-8") as source:
            parser.read_file(source)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: create it, or name another with --config") from None
    except configparser.MissingSectionHeaderError as error:
        stray, sections = (
            error.line.strip()[:80],
            ", ".join(sorted({f"[{section}]" for section, _ in SETTINGS})),
        )
        raise ConfigError(
            f"{file}: line {error.lineno}, {stray!r}, stands in no section: put it below one of {sections}"
        ) from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not readable as INI: {error}") from None
    settings = {}
    for section in parser.sections():
        for key, text in parser[section].items():
            if (section, key) not in SETTINGS:
                known = sorted({k for s, k in SETTINGS if s == section}) or sorted(
                    {f"[{s}]" for s, _ in SETTINGS}
                )
                raise ConfigError(f"{file}: [{section}] {key} is not a setting; there are {', '.join(known)}")
            settings[section, key] = (file, text.strip())
    return settings
