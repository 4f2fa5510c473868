"""The guard's configuration: guard.conf and guard.conf.d/*.conf, read once into a frozen Config.

Later files win, as systemd does it. Not here: the pod's own wishes, which come with the crash.
"""

from __future__ import annotations

import configparser
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from coredump_guard import pattern, store

DEFAULT_PATH = "/etc/coredump-guard/guard.conf"
_LAST_GOOD = "settings.json"
MODES = ("auto", "pipe", "socket")


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
    store: str
    group: int

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


def _mode(text: str) -> str:
    if text not in MODES:
        raise ValueError(f"must be one of {', '.join(MODES)}")
    return text


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
    ("guard", "mode"): ("auto", _mode),
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
    # The shared directory where dumps are delivered to.
    ("store", "path"): (None, _path),
    # Group that may read dumps in the store, for a shim that is not root.
    ("store", "group"): ("", _group),
}
"""Section and key to default (None: must be given) and parser."""

_FIELDS = {("store", "path"): "store"}


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
        return Config(**json.load(file))


def _read(file: str) -> dict[tuple[str, str], tuple[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",), default_section="")
    try:
        with open(file, encoding="utf-8") as source:
            parser.read_file(source)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: create it, or name another with --config") from None
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
