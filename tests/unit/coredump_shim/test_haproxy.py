"""The command that writes what HAProxy needs, without a cluster that could be asked."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from coredump_shim import cli, config, haproxy, rundir
from coredump_shim.config import ConfigError

SUBJECT = "/CN=coredump-shim.coredump-system.svc"


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return HAProxy's certificate with its key, and that of an authority behind it."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("own", "authority"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        files = ["-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.pem")]
        subprocess.run([*command, "-nodes", "-subj", SUBJECT, *files], check=True, capture_output=True)
    whole = directory / "bundle.pem"
    whole.write_text(
        "".join((directory / name).read_text() for name in ("own.key", "own.pem", "authority.pem"))
    )
    return whole


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Return credentials for a kube-apiserver that is not there."""
    path = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    user = {"name": "c", "user": {"token": "t"}}
    content = {"current-context": "c", "clusters": [cluster], "contexts": [context], "users": [user]}
    path.write_text(json.dumps(content | {"apiVersion": "v1", "kind": "Config"}))
    return path


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def command(kubeconfig: Path, run_dir: Path, pem: Path) -> list[str]:
    needed = ["--kubeconfig", str(kubeconfig), "--run-dir", str(run_dir), "--certificate", str(pem)]
    return ["haproxy", "--listen", "192.0.2.1:8443", *needed]


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_written_twice_is_the_same(command: list[str], run_dir: Path) -> None:
    assert cli.main(command) == 0
    first = files(run_dir)
    assert cli.main(command) == 0
    assert files(run_dir) == first
    text = (run_dir / rundir.HAPROXY_CFG).read_text()
    named = set(re.findall(rf"{run_dir}/[\w./-]+", text))
    assert set(first) - {str(run_dir / rundir.HAPROXY_CFG)} <= named
    assert named - set(first) == {
        str(run_dir / name) for name in (rundir.SHIM_SOCKET, rundir.ADMIN_SOCKET, rundir.OFFLINE_SOCKET)
    }


def test_every_document_fits_into_a_buffer(command: list[str], run_dir: Path) -> None:
    """HAProxy's own bound for a file that it answers with is tune.bufsize - tune.maxrewrite (1024)."""
    cli.main(command)
    sizes = {path.name: path.stat().st_size for path in (run_dir / rundir.OFFLINE).iterdir()}
    assert max(sizes.values()) < (1 << 16) - 2048, sizes
    assert len(sizes) == 8


def test_without_a_cluster_nobody_is_trusted(command: list[str], run_dir: Path, pem: Path) -> None:
    """Not even who has a certificate of the authority that signed HAProxy's own."""
    cli.main(command)
    trusted = (run_dir / rundir.REQUESTHEADER_CA).read_text()
    assert trusted.split() == (pem.parent / "own.pem").read_text().split()


def test_who_was_trusted_before_is_until_the_cluster_answers(
    command: list[str], run_dir: Path, pem: Path
) -> None:
    known = (pem.parent / "authority.pem").read_text()
    (run_dir / rundir.REQUESTHEADER_CA).write_text(known)
    cli.main(command)
    assert (run_dir / rundir.REQUESTHEADER_CA).read_text().split() == known.split()


def test_identity_and_limits(command: list[str], run_dir: Path) -> None:
    assert cli.main([*command, "--user", "nobody", "--group", "daemon", "--downloads", "7"]) == 0
    text = (run_dir / rundir.HAPROXY_CFG).read_text()
    assert "    user nobody\n    group daemon\n" in text
    assert f'{rundir.ADMIN_SOCKET}" mode 660 level admin expose-fd listeners group daemon\n' in text
    assert f'{rundir.OFFLINE_SOCKET}" mode 600 user nobody\n' in text
    assert "maxconn 7 track" in text


@pytest.mark.parametrize(
    ("listen", "bind"),
    [(":443", "bind 0.0.0.0:443 ssl"), ("[2001:db8::1]:8443", "bind [2001:db8::1]:8443 ssl")],
)
def test_addresses(command: list[str], run_dir: Path, listen: str, bind: str) -> None:
    cli.main([*command, "--listen", listen])
    assert bind in (run_dir / rundir.HAPROXY_CFG).read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "8443"], "--listen '8443' must be ADDRESS:PORT"),
        (["--run-dir", "/nowhere"], "--run-dir /nowhere is not a directory"),
        (["--certificate", '/tmp/a" mode 666'], "--certificate '/tmp/a\" mode 666' must be of letters"),
        (["--certificate", "/nowhere"], "--certificate /nowhere: No such file"),
        (["--certificate", "/dev/null"], "--certificate /dev/null: no certificate with"),
        (["--certificate", "/etc/passwd"], "--certificate /etc/passwd: no certificate with"),
        (["--user", "no-such-user"], "--user no-such-user: there is none here; make it"),
        (["--group", "no-such-group"], "--group no-such-group: there is none here; make it"),
        (["--user", "a\nb"], "--user 'a\\nb' must be of letters"),
        (["--group", "a b"], "--group 'a b' must be of letters"),
        (["--downloads", "0"], "--downloads 0 must be from 1"),
        (["--kubeconfig", "/nowhere"], "--kubeconfig /nowhere: "),
    ],
)
def test_bad_options_are_named(
    command: list[str], capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert cli.main([*command, *options]) == 2
    assert said in capsys.readouterr().err


def test_a_certificate_without_its_key_is_named(
    command: list[str], pem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_text((pem.parent / "own.pem").read_text())
    for words, said in (
        (None, "No such file or directory"),
        ("garbage", "no certificate with its unencrypted key, in PEM"),
        ((pem.parent / "authority.key").read_text(), "the key is another certificate's"),
    ):
        if words is not None:
            key.write_text(words)
        assert cli.main([*command, "--certificate", str(certificate)]) == 2
        assert f"--certificate {certificate}: {said}; the key must be" in capsys.readouterr().err
    key.write_text((pem.parent / "own.key").read_text())
    assert cli.main([*command, "--certificate", str(certificate)]) == 0


def test_a_directory_that_cannot_be_written(command: list[str], run_dir: Path) -> None:
    (run_dir / rundir.HAPROXY_CFG).mkdir()
    arguments = cli._parser().parse_args(command)
    with pytest.raises(ConfigError, match=r"haproxy\.cfg: Is a directory"):
        haproxy.run(arguments)


def test_listens_everywhere_unless_told_otherwise(command: list[str]) -> None:
    arguments = cli._parser().parse_args(
        [word for word in command if word not in ("--listen", "192.0.2.1:8443")]
    )
    settings = haproxy.settings_of(arguments)
    assert (settings.host, settings.port) == config.parse_listen(":8443")
