"""The configuration: later files win, and every error names file, section, key and remedy."""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import config as module
from coredump_guard.config import UNLIMITED, Config, ConfigError, load

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes guard.conf and drop-ins and returns the path of the first."""

    def files(text: str = "[store]\npath = /srv/cores\n", **drop_ins: str) -> str:
        path = tmp_path / "guard.conf"
        path.write_text(text)
        for name, content in drop_ins.items():
            (tmp_path / "guard.conf.d").mkdir(exist_ok=True)
            (tmp_path / "guard.conf.d" / name.replace("_", ".")).write_text(content)
        return str(path)

    return files


def test_everything_but_the_store_has_a_default(write: Write) -> None:
    path = write()
    config = load(path)
    assert config == Config(
        path=path,
        node=socket.gethostname(),
        mode="auto",
        workers=2,
        deadline=600,
        spool="/var/lib/coredump-guard/spool",
        state="/var/lib/coredump-guard",
        runtime="/run/coredump-guard",
        interpreter=config.interpreter,
        host_crashes="chain",
        setuid=True,
        spool_size=20 << 30,
        spool_free=2 << 30,
        spool_share=50,
        allow=("*",),
        deny=(),
        largest_core=UNLIMITED,
        loop_newest=3,
        loop_window=3600,
        environ=False,
        log_size=64 << 10,
        executables=True,
        largest_executable=512 << 20,
        store="/srv/cores",
        group=-1,
        quota=UNLIMITED,
    )
    assert os.path.isabs(config.interpreter)
    assert not os.path.islink(config.interpreter)
    assert config.doorman == "/run/coredump-guard/doorman.py"
    assert config.guard_socket == "/run/coredump-guard/guard.sock"
    assert config.kernel_socket == "/run/coredump-guard/kernel.sock"


def test_everything_can_be_set(write: Write) -> None:
    group = grp.getgrgid(0).gr_name
    config = load(
        write(
            "# a comment\n[guard]\nNode = n1.example\nmode = socket  # why not\nworkers=4\ndeadline = 30\n"
            "spool = /s/spool/\nstate = /s//state\nruntime = /run/coredump-guard-2\ninterpreter = /bin/py\n"
            f"[store]\npath = /srv/cores\ngroup = {group}\n"
        )
    )
    assert (config.node, config.mode, config.workers, config.deadline) == ("n1.example", "socket", 4, 30)
    assert (config.spool, config.state, config.runtime) == ("/s/spool", "/s/state", "/run/coredump-guard-2")
    assert (config.interpreter, config.store, config.group) == ("/bin/py", "/srv/cores", 0)


def test_drop_ins_are_read_in_the_order_of_their_names_and_win(write: Write) -> None:
    path = write(
        "[guard]\nworkers = 1\ndeadline = 10\n[store]\npath = /a\n",
        **{"20-b_conf": "[guard]\nworkers = 4\n", "10-a_conf": "[guard]\nworkers = 3\n[store]\npath = /b\n"},
        **{"30-c_bak": "[guard]\nworkers = 16\n"},
    )
    config = load(path)
    assert (config.workers, config.deadline, config.store) == (4, 10, "/b")


def test_a_drop_in_can_bring_what_is_missing(write: Write) -> None:
    assert load(write("", a_conf="[store]\npath = /b\n")).store == "/b"


BAD = [
    ("[guard]\nworkers = 0\n", "[guard] workers = 0: must be a whole number from 1 to 16"),
    ("[guard]\nworkers = 17\n", "[guard] workers = 17: must be a whole number from 1 to 16"),
    ("[guard]\nworkers = ٣\n", "[guard] workers = ٣: must be a whole number from 1 to 16"),
    ("[guard]\nworkers =\n", "[guard] workers = : must be a whole number from 1 to 16"),
    ("[guard]\ndeadline = 1.5\n", "[guard] deadline = 1.5: must be a whole number from 1 to 86400"),
    ("[guard]\ndeadline = -1\n", "[guard] deadline = -1: must be a whole number from 1 to 86400"),
    ("[guard]\nmode = pipes\n", "[guard] mode = pipes: must be one of auto, pipe, socket"),
    ("[guard]\nspool = spool\n", "[guard] spool = spool: must be an absolute path"),
    ("[guard]\nspool = /a\n  /b\n", "[guard] spool = /a\n/b: must be an absolute path, on one line"),
    ("[guard]\nstate = ~/x\n", "[guard] state = ~/x: must be an absolute path"),
    ("[guard]\ninterpreter = python3\n", "[guard] interpreter = python3: must be an absolute path"),
    ("[guard]\nruntime = run\n", "[guard] runtime = run: must be an absolute path"),
    ("[guard]\nruntime = /run/x\n", "[guard] runtime = /run/x: its last part must begin with coredump-guard"),
    ("[guard]\nruntime = /a b/coredump-guard\n", "and hold no space"),
    ("[guard]\nnode = a/b\n", "[guard] node = a/b: must be a host name: letters, digits, '-' and '.'"),
    ("[guard]\nnode = ..\n", "[guard] node = ..: must be a host name"),
    ("[guard]\nnode =\n", "[guard] node = : must be a host name"),
    ("[store]\npath = nfs:/x\n", "[store] path = nfs:/x: must be an absolute path"),
    (
        "[store]\npath = /x\ngroup = no such group\n",
        "[store] group = no such group: is not a group of this machine",
    ),
    (
        "[store]\npath = /x\ngroup = 4294967295\n",
        "[store] group = 4294967295: must be a whole number from 0 to 4294967294",
    ),
    ("[store]\npath = /x\ngroup = ²\n", "[store] group = ²: must be a whole number"),
    ("[guard]\nworker = 2\n", "[guard] worker is not a setting; there are deadline, interpreter, mode, node"),
    (
        "[gaurd]\nworkers = 2\n",
        "[gaurd] workers is not a setting; there are [guard], [metadata], [policy], [spool], [store]",
    ),
    (
        "[DEFAULT]\nworkers = 2\n",
        "[DEFAULT] workers is not a setting; there are [guard], [metadata], [policy], [spool], [store]",
    ),
    (
        "workers = 2\n",
        "line 1, 'workers = 2', stands in no section: put it below one of [guard], [metadata], ",
    ),
    ("[guard]\nworkers\n", "not readable as INI"),
    ("[guard]\nworkers = 1\nworkers = 2\n", "not readable as INI"),
    ("[guard\nworkers = 1\n", "line 1, '[guard', stands in no section"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_errors_name_file_section_key_and_remedy(write: Write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_an_error_in_a_drop_in_names_the_drop_in(write: Write) -> None:
    path = write(a_conf="[guard]\nmode = x\n")
    with pytest.raises(ConfigError, match=rf"^{path}\.d/a\.conf: \[guard\] mode = x: must be one of"):
        load(path)


def test_a_missing_setting_is_named_with_its_remedy(write: Write) -> None:
    path = write("")
    with pytest.raises(ConfigError, match=rf"^{path}: \[store\] path is missing: add 'path = …' there$"):
        load(path)


def test_a_missing_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "none.conf"
    with pytest.raises(
        ConfigError, match=f"^{path}: No such file or directory: create it, or name another with"
    ):
        load(str(path))


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "guard.conf"
    path.write_bytes(b"[store]\npath = /\xff\xfe\n")
    with pytest.raises(ConfigError, match="not readable as INI"):
        load(str(path))


def test_percent_signs_are_not_expanded(write: Write) -> None:
    assert load(write("[store]\npath = /srv/%(x)s/%d\n")).store == "/srv/%(x)s/%d"


def test_numbers_of_groups_need_no_name(write: Write) -> None:
    assert load(write("[store]\npath = /x\ngroup = 4242\n")).group == 4242


@given(
    st.sampled_from(sorted(module.SETTINGS)), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
def test_any_value_raises_nothing_but_config_error(
    tmp_path_factory: pytest.TempPathFactory, setting: tuple[str, str], value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text(f"[{setting[0]}]\n{setting[1]} = {value}\n", encoding="utf-8", newline="")
    try:
        load(str(path))
    except ConfigError as error:
        assert str(path) in str(error)
