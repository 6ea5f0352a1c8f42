"""The units: as systemd reads them, without a running one."""

import os
import subprocess

import pytest

from backstop.daemon.asker import MAX_SOUGHT
from tests.harness.servers import ROOT, need

SYSTEMD = ROOT / "systemd"
UNITS = ["backstop.service", "backstop-redis.service"]

# What may be lost by hardening: 10 is a unit without any. Debian's own milters stand between 9.2 and 9.6.
EXPOSURE = 1.5


def lines(name, key):
    """What stands behind each `key=` of the unit, in order."""
    text = (SYSTEMD / name).read_text().splitlines()
    return [line.partition("=")[2] for line in text if line.startswith(f"{key}=")]


def columns(name):
    text = (SYSTEMD / name).read_text().splitlines()
    return [line.split() for line in text if not line.startswith("#")]


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_leaves_little_exposed(unit):
    analyze = need("systemd-analyze")
    found = run(
        analyze,
        "security",
        "--offline=yes",
        f"--threshold={EXPOSURE * 10:.0f}",
        "--no-pager",
        str(SYSTEMD / unit),
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"Overall exposure level for {unit}" in found.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line_of_a_unit(unit, tmp_path):
    analyze = need("systemd-analyze")
    # The command is not installed where tests run.
    (tmp_path / unit).write_text((SYSTEMD / unit).read_text().replace("/usr/bin/backstop ", "/bin/true "))
    found = run(analyze, "verify", "--man=no", str(tmp_path / unit))
    assert [line for line in found.stderr.splitlines() if unit in line] == []


def test_a_wrong_configuration_is_not_tried_again():
    assert lines("backstop.service", "Restart") == ["on-failure"]
    assert lines("backstop.service", "RestartPreventExitStatus") == [str(os.EX_CONFIG)]


def test_the_parent_alone_is_signalled_and_has_time_to_drain():
    assert lines("backstop.service", "KillMode") == ["mixed"]
    assert int(lines("backstop.service", "TimeoutStopSec")[0]) > 10
    assert lines("backstop.service", "ExecReload") == ["/bin/sh -c 'kill -HUP $MAINPID'"]


def test_readiness_and_the_watchdog_come_from_the_parent():
    assert lines("backstop.service", "Type") == ["notify"]
    assert lines("backstop.service", "NotifyAccess") == ["main"]
    assert int(lines("backstop.service", "WatchdogSec")[0]) == 30


def test_the_service_may_write_where_the_socket_lies_and_nowhere_else():
    socket = [row for row in columns("backstop.tmpfiles") if "postfix" in row[1]]
    assert socket == [["d", "/var/spool/postfix/backstop", "2750", "backstop", "postfix", "-"]]
    assert lines("backstop.service", "ReadWritePaths") == ["-/var/spool/postfix/backstop"]
    assert lines("backstop.service", "ProtectSystem") == ["strict"]


def test_the_threads_that_ask_slow_sources_take_none_from_the_workers():
    assert int(lines("backstop.service", "TasksMax")[0]) >= 512 + 2 * MAX_SOUGHT


def test_sysusers_and_tmpfiles_make_what_the_units_name(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give folders away")
    sysusers, tmpfiles = need("systemd-sysusers"), need("systemd-tmpfiles")
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\npostfix:x:123:\n")
    (tmp_path / "var/spool/postfix").mkdir(parents=True)

    made = run(sysusers, f"--root={tmp_path}", str(SYSTEMD / "backstop.sysusers"))
    assert made.returncode == 0, made.stderr
    users = {line.split(":")[0] for line in (etc / "passwd").read_text().splitlines()}
    groups = {
        line.split(":")[0]: int(line.split(":")[2]) for line in (etc / "group").read_text().splitlines()
    }
    assert {name for unit in UNITS for name in lines(unit, "User")} <= users
    assert {name for unit in UNITS for name in lines(unit, "Group")} <= set(groups)

    made = run(tmpfiles, f"--root={tmp_path}", "--create", str(SYSTEMD / "backstop.tmpfiles"))
    assert made.returncode == 0, made.stderr
    socket_folder = (tmp_path / "var/spool/postfix/backstop").stat()
    assert (socket_folder.st_mode & 0o7777, socket_folder.st_gid) == (0o2750, 123)
    settings = (tmp_path / "etc/backstop").stat()
    assert (settings.st_mode & 0o7777, settings.st_uid, settings.st_gid) == (0o750, 0, groups["backstop"])
