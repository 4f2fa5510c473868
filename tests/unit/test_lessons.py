"""Lessons of other core handlers that our sources must keep as a whole: what is never called, and where.

Lessons about one part have their test beside that part's; docs/security.md lists them all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*CHECKOUT.glob("handler/**/*.py"), *CHECKOUT.glob("shim/**/*.py")])
NODE = [path for path in SOURCES if "handler" in path.relative_to(CHECKOUT).parts]

EVALUATES = {"eval", "exec", "compile", "__import__"}
REPLACES = re.compile(
    r"(exec[lv]p?e?|posix_spawnp?|spawn[lv]p?e?|system|popen|startfile|chroot|pivot_root)\Z"
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of a source, each with what is called as it is written."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_there_are_sources() -> None:
    assert len(NODE) > 20
    assert len(SOURCES) > 60


def test_cve_2025_12744_no_shell_ever() -> None:
    for path in SOURCES:
        for name, call in calls(path):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert given.get("shell", "False") == "False", f"{path}:{call.lineno}: {name} uses a shell"
            if name.startswith("subprocess."):
                first = ast.unparse(call.args[0]) if call.args else given.get("args", "")
                assert not re.match(r"f?['\"]", first), f"{path}:{call.lineno}: a command must be a list"


def test_cve_2016_9949_nothing_is_evaluated() -> None:
    for path in SOURCES:
        assert not EVALUATES & {name for name, _ in calls(path)}
        assert not {"pickle", "marshal", "shelve", "code"} & imports(path)
        assert "yaml" not in imports(path) or path not in NODE
        for name, call in calls(path):
            if re.match(r"yaml\.\w*load", name) and name != "yaml.safe_load":
                assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords} == SAFELY
                assert "class _Loader(yaml.SafeLoader):" in path.read_text()


SAFELY = {"Loader": "_Loader"}


def test_cve_2015_1318_root_never_enters_or_runs_what_is_the_crashers() -> None:
    """CVE-2015-1862 too. What is started is the administrator's own, or our own."""
    for path in SOURCES:
        for name, call in calls(path):
            module, _, function = name.rpartition(".")
            called = module in ("os", "posix") or "libc" in module
            replaces = called and REPLACES.match(function) and path.name not in STARTS_PROGRAMS
            assert not replaces, f"{path}:{call.lineno}: {name}"
        if path in NODE and path.name not in STARTS_PROGRAMS:
            assert not {"subprocess", "multiprocessing", "pty"} & imports(path)


STARTS_PROGRAMS = {
    "handon.py",  # what core_pattern named before us, with the crasher's words as arguments
    "launcher.py",  # the same
    "executables.py",  # ourselves, to copy what is held open
    "canary.py",  # a child of our own, to crash
    "trial.py",  # the kernel's own way of starting the doorman, tried out by the doctor
}


def test_cve_2015_1318_forgeable_proc_net_unix_is_never_read() -> None:
    for path in NODE:
        assert "/net/unix" not in path.read_text()


def test_cve_2020_8833_ownership_is_given_to_descriptors_never_to_paths() -> None:
    for path in NODE:
        for name, call in calls(path):
            assert name not in ("os.chown", "os.lchown", "os.chmod", "shutil.chown"), f"{path}:{call.lineno}"


def test_cve_2019_11485_nothing_lies_in_a_directory_that_users_write() -> None:
    """CVE-2020-8831 was a lock file below /var/lock; ours lie in root's directories."""
    for path in NODE:
        text = path.read_text()
        assert not re.search(r"['\"]/(tmp|var/tmp|dev/shm|var/lock|run/lock|var/crash)\b", text)
        assert "tempfile" not in imports(path)


def test_cve_2019_7307_no_file_of_the_crashers_tree_is_opened_by_a_path() -> None:
    """The crasher's root and cwd are reached as O_PATH only, then with the crasher's rights."""
    for path in NODE:
        for name, call in calls(path):
            if (
                name.endswith(".open")
                and call.args
                and ast.unparse(call.args[0]) in ("'cwd'", "'root'", "'exe'")
            ):
                flags = ast.unparse(call.args[1]) if len(call.args) > 1 else ""
                assert "O_PATH" in flags, f"{path}:{call.lineno}: opens what the crasher's link leads to"
