"""What is particular to the tables of Postfix, read by postmap or directly."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backstop.adapters.lmdb_file import LmdbFile
from backstop.adapters.postfix_map import PROCESSES, PostfixMap, open_table
from backstop.facts import Existence
from tests.harness.servers import backstop_environment, need, wait_for


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A folder with a main.cf that Postfix does not take for one that is being written."""
    need("postmap")
    folder = tmp_path / "postfix"
    folder.mkdir()
    (folder / "main.cf").write_text("compatibility_level = 3.6\n")
    os.utime(folder / "main.cf", (0, 0))
    return str(folder)


def build(config: str, kind: str, path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
    os.utime(path, (0, 0))
    subprocess.run([need("postmap"), "-c", config, f"{kind}:{path}"], check=True, timeout=20)


def ask(source: PostfixMap | LmdbFile, address: str, seconds: float = 10.0) -> Existence:
    local, _, domain = address.rpartition("@")
    return source.ask(local, domain, time.monotonic() + seconds)


@pytest.mark.parametrize("kind", ["hash", "lmdb", "texthash", "direct"])
def test_local_parts_whole_domains_and_quotes(config: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table"
    lines = (
        *("alice x", "Bob@Ours.Test x", "@catch.test x", '"two words"@ours.test x', "gone.test x"),
        *('"john..doe"@ours.test x', "bob@B\u00fccher.example x"),
    )
    if kind == "texthash":
        path.write_text("".join(f"{line}\n" for line in lines))
        os.utime(path, (0, 0))
    else:
        build(config, "lmdb" if kind == "direct" else kind, path, *lines)
    source = LmdbFile(str(path)) if kind == "direct" else PostfixMap(f"{kind}:{path}", config)
    wanted = {
        "alice@ours.test": Existence.EXISTS,
        "bob@ours.test": Existence.EXISTS,
        "two words@ours.test": Existence.EXISTS,
        "john..doe@ours.test": Existence.EXISTS,
        "bob@xn--bcher-kva.example": Existence.EXISTS,
        "anybody@catch.test": Existence.ANYBODY,
        "bob@else.test": Existence.MISSING,
        "x@gone.test": Existence.MISSING,
    }
    assert {address: ask(source, address) for address in wanted} == wanted
    source.close()


def test_tables_within_tables(config: str, tmp_path: Path) -> None:
    build(config, "hash", tmp_path / "one", "alice@ours.test x")
    build(config, "lmdb", tmp_path / "two", "bob@ours.test x")
    source = PostfixMap(f"unionmap:{{hash:{tmp_path}/one,lmdb:{tmp_path}/two}}", config)
    assert ask(source, "alice@ours.test") is Existence.EXISTS
    assert ask(source, "bob@ours.test") is Existence.EXISTS
    assert ask(source, "carol@ours.test") is Existence.MISSING


def test_a_pattern_is_asked_for_whole_addresses_only(config: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("/^[a-z]*@ours\\.test$/ x\n")
    os.utime(rules, (0, 0))
    source = PostfixMap(f"pcre:{rules}", config)
    assert ask(source, "alice@ours.test") is Existence.EXISTS
    assert ask(source, "4711@ours.test") is Existence.MISSING


@pytest.mark.parametrize("content", ["", "# nobody yet\n", "\n  \n"])
def test_rules_without_a_rule_know_nobody(config: str, tmp_path: Path, content: str) -> None:
    rules = tmp_path / "rules"
    rules.write_text(content)
    os.utime(rules, (0, 0))
    source = PostfixMap(f"regexp:{rules}", config)
    assert ask(source, "alice@ours.test") is Existence.UNKNOWN
    assert source.trouble == (f"regexp:{rules} is empty, so it is not believed that somebody does not exist")


@pytest.mark.parametrize(
    ("kind", "line"), [("pcre", "/^alice@/ x\n"), ("texthash", "alice x\n"), ("unionmap", "alice x\n")]
)
def test_from_a_text_that_is_being_written_nobody_is_missing(
    config: str, tmp_path: Path, kind: str, line: str
) -> None:
    rules = tmp_path / "rules"
    rules.write_text(line)
    source = PostfixMap(f"unionmap:{{texthash:{rules}}}" if kind == "unionmap" else f"{kind}:{rules}", config)
    assert ask(source, "bob@ours.test") is Existence.UNKNOWN
    assert "is being written" in source.trouble
    assert ask(source, "alice@ours.test") is Existence.EXISTS
    os.utime(rules, (0, 0))
    assert ask(source, "bob@ours.test") is Existence.MISSING


@pytest.mark.parametrize("kind", ["hash", "texthash", "unionmap", "pcre"])
def test_a_table_that_is_emptied_is_unknown_at_once(config: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table"
    table = f"unionmap:{{hash:{path}}}" if kind == "unionmap" else f"{kind}:{path}"
    source = PostfixMap(table, config)
    for lines, existence in ((["alice@ours.test x"], Existence.MISSING), ([], Existence.UNKNOWN)):
        if kind in ("hash", "unionmap"):
            build(config, "hash", path, *lines)
        else:
            text = "".join(f"/{line}/ x\n" if kind == "pcre" else f"{line}\n" for line in lines)
            path.write_text(text)
            os.utime(path, (0, 0))
        assert ask(source, "bob@ours.test") is existence


def test_what_postmap_complains_of_is_told_and_who_is_there_is_believed(config: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("/^alice@/ x\n/unfinished x\n")
    os.utime(rules, (0, 0))
    source = PostfixMap(f"pcre:{rules}", config)
    assert ask(source, "alice@ours.test") is Existence.EXISTS
    assert "line 2" in source.trouble
    assert ask(source, "bob@ours.test") is Existence.UNKNOWN
    assert "line 2" in source.trouble


def test_what_postmap_says_each_time_is_no_trouble(config: str, tmp_path: Path) -> None:
    main = Path(config) / "main.cf"
    main.write_text("compatibility_level = 3.6\nmail_name = One\nmail_name = Two\n")
    os.utime(main, (0, 0))
    build(config, "hash", tmp_path / "table", "alice@ours.test x")
    os.utime(tmp_path / "table.db", (1, 1))
    os.utime(tmp_path / "table", (10**9, 10**9))
    source = PostfixMap(f"hash:{tmp_path}/table", config)
    assert ask(source, "bob@ours.test") is Existence.MISSING
    assert not source.trouble


@pytest.mark.parametrize("table", ["nosuchtype:/table", "hash:", "tcp:127.0.0.1:1", "-q:x"])
def test_a_table_that_does_not_work_is_unknown(config: str, table: str) -> None:
    source = PostfixMap(table, config)
    assert ask(source, "alice@ours.test", 2) is Existence.UNKNOWN
    assert source.trouble


def test_without_postmaps_configuration_it_is_unknown(tmp_path: Path) -> None:
    need("postmap")
    source = PostfixMap("static:x", str(tmp_path / "none"))
    assert ask(source, "alice@ours.test", 5) is Existence.UNKNOWN
    assert "main.cf" in source.trouble


def children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def test_a_crowd_before_a_table_that_hangs_starts_few_processes_and_leaves_none(
    config: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "table")
    source = PostfixMap(f"texthash:{tmp_path}/table", config)
    before = children()
    found: list[Existence] = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(source, "alice@ours.test", 1.0)))
        for _ in range(3 * PROCESSES)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(children() - before))
        time.sleep(0.01)
    assert time.monotonic() - began < 3
    assert found == [Existence.UNKNOWN] * len(threads)
    assert PROCESSES <= most <= 2 * PROCESSES  # one that ends may be seen beside the one that follows it
    assert children() <= before


def run_apart(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process of its own session that asks."""
    return subprocess.Popen(
        [sys.executable, "-c", "import time, sys\n" + code, *arguments],
        env=backstop_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_postmap_ends_with_the_group_of_whoever_asks(config: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table")
    code = (
        "from backstop.adapters.postfix_map import PostfixMap\n"
        "PostfixMap(sys.argv[1], sys.argv[2]).ask('alice', 'ours.test', time.monotonic() + 60)\n"
    )
    asker = run_apart(code, f"texthash:{tmp_path}/table", config)
    task = Path(f"/proc/{asker.pid}/task/{asker.pid}/children")
    postmap = ""
    try:
        postmap = wait_for(lambda: next(filter(is_postmap, task.read_text().split()), ""), 20, "postmap")
        os.killpg(asker.pid, signal.SIGKILL)
        wait_for(lambda: not is_postmap(postmap), 5, "its end")
    finally:
        asker.kill()
        asker.communicate()
        if is_postmap(postmap):
            os.kill(int(postmap), signal.SIGKILL)


def is_postmap(process: str) -> bool:
    """Whether this process runs postmap, and has not ended yet."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "postmap" in Path(f"/proc/{process}/cmdline").read_text().partition("\0")[0]
    return False


def test_a_process_with_many_open_files_asks_as_any_other(config: str, tmp_path: Path) -> None:
    build(config, "hash", tmp_path / "table", "alice@ours.test x")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2048:
        pytest.skip("no process may have so many")
    code = (
        "import os, resource\n"
        "from backstop.adapters.postfix_map import PostfixMap\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))\n"
        "opened = [os.dup(0) for _ in range(1100)]\n"
        "source = PostfixMap(sys.argv[1], sys.argv[2])\n"
        "print(source.ask('bob', 'ours.test', time.monotonic() + 20).name)\n"
    )
    with run_apart(code, f"hash:{tmp_path}/table", config) as asker:
        assert asker.communicate(timeout=60)[0] == "MISSING\n"


def test_a_large_table_is_not_read_to_see_that_it_is_not_empty(config: str, tmp_path: Path) -> None:
    build(config, "lmdb", tmp_path / "table", *(f"user{number}@ours.test x" for number in range(20_000)))
    source = PostfixMap(f"lmdb:{tmp_path}/table", config)
    assert ask(source, "nosuch@ours.test") is Existence.MISSING


def test_an_lmdb_file_is_read_directly_and_all_else_by_postmap() -> None:
    assert isinstance(open_table("lmdb:/table"), LmdbFile)
    for table in ("lmdb:table", "proxy:lmdb:/table", "hash:/table", "unionmap:{lmdb:/a,lmdb:/b}"):
        assert isinstance(open_table(table), PostfixMap)


class TestLmdb:
    @pytest.fixture
    def path(self, config: str, tmp_path: Path) -> Path:
        path = tmp_path / "table"
        build(config, "lmdb", path, "alice@ours.test x", "strasse@ours.test x")
        return path

    def test_a_table_that_is_built_again_is_always_right(self, path: Path, config: str) -> None:
        source = LmdbFile(str(path))
        wrong: list[Existence] = []
        is_over = threading.Event()

        def read() -> None:
            while not is_over.is_set():
                found = ask(source, "alice@ours.test")
                if found is not Existence.EXISTS:
                    wrong.append(found)

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(20):
            more = (f"user{each}@ours.test x" for each in range(number * 50))
            build(config, "lmdb", path, "alice@ours.test x", *more)
        is_over.set()
        reader.join()
        assert not wrong
        assert ask(source, "user949@ours.test") is Existence.EXISTS
        source.close()

    def test_a_table_that_is_put_in_its_place_is_read(self, path: Path, config: str) -> None:
        source = LmdbFile(str(path))
        assert ask(source, "bob@ours.test") is Existence.MISSING
        build(config, "lmdb", path.with_name("fresh"), "bob@ours.test x")
        path.with_name("fresh.lmdb").rename(path.with_name("table.lmdb"))
        assert ask(source, "bob@ours.test") is Existence.EXISTS
        assert ask(source, "alice@ours.test") is Existence.MISSING
        source.close()

    def test_a_table_that_outgrows_what_was_mapped_is_read(self, path: Path) -> None:
        path.with_name("table.lmdb").unlink()
        grow = (
            "import lmdb, sys\n"
            "e = lmdb.open(sys.argv[1], subdir=False, lock=False, map_size=int(sys.argv[2]))\n"
            "with e.begin(write=True) as t:\n"
            "    for n in range(int(sys.argv[3])): t.put(b'user%d@ours.test' % n, b'x' * 100)\n"
        )

        def build_with(size: int, users: int) -> None:
            words = [sys.executable, "-c", grow, f"{path}.lmdb", str(size), str(users)]
            subprocess.run(words, check=True, timeout=60)

        build_with(1 << 18, 100)
        source = LmdbFile(str(path))
        assert ask(source, "user99@ours.test") is Existence.EXISTS
        assert ask(source, "user29999@ours.test") is Existence.MISSING
        build_with(1 << 24, 30_000)
        assert ask(source, "user29999@ours.test") is Existence.EXISTS
        source.close()

    def test_keys_are_folded_as_postmap_folds_them(self, path: Path) -> None:
        source = LmdbFile(str(path))
        assert ask(source, "straße@ours.test") is Existence.EXISTS
        source.close()

    def test_two_of_one_file_do_not_end_the_process(self, path: Path) -> None:
        first, second = LmdbFile(str(path)), LmdbFile(str(path))
        assert ask(first, "alice@ours.test") is Existence.EXISTS
        # Newer versions of lmdb refuse the second, 1.4.0 does not.
        if ask(second, "alice@ours.test") is not Existence.EXISTS:
            assert "already open" in second.trouble
        first.close()
        assert ask(second, "alice@ours.test") is Existence.EXISTS
        second.close()

    @pytest.mark.parametrize("size", [0, 100, 4096, 8192, 10_000])
    def test_a_file_that_is_cut_short_is_unknown_and_ends_nobody(self, path: Path, size: int) -> None:
        # In a process of its own: to read beyond the end of a mapped file is SIGBUS.
        code = (
            "import os, sys, time\n"
            "from backstop.adapters.lmdb_file import LmdbFile\n"
            "source = LmdbFile(sys.argv[1])\n"
            "ask = lambda: source.ask('alice', 'ours.test', time.monotonic() + 9).name\n"
            "print(ask())\n"
            "os.truncate(sys.argv[1] + '.lmdb', int(sys.argv[2]))\n"
            "print(ask(), source.trouble)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(path), str(size)],
            env=backstop_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        first, second = run.stdout.splitlines()
        assert first == "EXISTS"
        assert second.startswith("UNKNOWN ")

    def test_garbage_is_unknown(self, path: Path) -> None:
        path.with_name("table.lmdb").write_bytes(b"garbage " * 4096)
        source = LmdbFile(str(path))
        assert ask(source, "alice@ours.test") is Existence.UNKNOWN
        assert source.trouble
        source.close()
