"""One suite for every recipient source: what each of them must say of the same people."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from backstop.adapters.asker_client import AskedSource
from backstop.adapters.recipient_file import SETTLED_SECONDS, FileSource
from backstop.adapters.recipients import MtaSource, RecipientSource, RedisSource, first_answer
from backstop.adapters.redis_store import Store
from backstop.facts import Existence
from backstop.settings import parse_source
from tests.harness.asker_process import AskerProcess
from tests.harness.redis_server import RedisServer


class Provider(Protocol):
    """A source, and how its knowledge is set for the test."""

    source: RecipientSource

    def know(self, *locals_: str) -> None: ...

    def ask(self, *locals_: str, now: float = 0.0) -> Existence: ...


class OfRedis:
    def __init__(self, server: RedisServer) -> None:
        self.source = RedisSource()
        self._client = server.client()
        self._store = Store(server.unix_url)

    def know(self, *locals_: str) -> None:
        self._client.delete("backstop:recipients:ours.test")
        if locals_:
            self._client.sadd("backstop:recipients:ours.test", *locals_)

    def ask(self, *locals_: str, now: float = 0.0) -> Existence:
        replies = self._store.ask(self.source.commands("ours.test", locals_))
        return self.source.existence("ours.test", locals_, replies, now, 0.0)

    def close(self) -> None:
        self._client.close()
        self._store.close()


class OfFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.troubles: list[str] = []
        self.source = FileSource(str(path), self.troubles.append)
        self._now = 1000.0

    def know(self, *locals_: str) -> None:
        """Put another file, written long ago, in the place of this one."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{local}\n" for local in locals_))
        os.utime(fresh, (0, 0))
        fresh.rename(self.path)

    def write(self, octets: bytes, mtime: float) -> None:
        """Write this file anew in its place."""
        self.path.write_bytes(octets)
        os.utime(self.path, (mtime, mtime))

    def ask(self, *locals_: str, now: float | None = None) -> Existence:
        self._now += 2
        assert not self.source.commands("ours.test", locals_)
        return self.source.existence("ours.test", locals_, None, self._now if now is None else now, 0.0)


class Asked:
    """A database, by way of an asker process."""

    def __init__(self, asker: AskerProcess) -> None:
        self.source = AskedSource(parse_source("sql:people"), asker.client, print)
        self.know = asker.know

    def ask(self, *locals_: str, now: float = 0.0) -> Existence:
        assert not self.source.commands("ours.test", locals_)
        return self.source.existence("ours.test", locals_, None, now, time.monotonic() + 20)


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[AskerProcess]:
    with AskerProcess(tmp_path) as asker:
        yield asker


@pytest.fixture(params=["redis", "file", "asked"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Provider]:
    if request.param == "file":
        yield OfFile(tmp_path / "recipients")
        return
    if request.param == "asked":
        yield Asked(request.getfixturevalue("asker"))
        return
    made = OfRedis(request.getfixturevalue("shared_redis"))
    yield made
    made.close()


class TestEverySource:
    def test_who_is_there_exists(self, provider: Provider) -> None:
        provider.know("alice", "bob")
        assert provider.ask("alice") is Existence.EXISTS

    def test_with_the_extension_or_without(self, provider: Provider) -> None:
        provider.know("alice")
        assert provider.ask("alice+list", "alice") is Existence.EXISTS

    def test_who_is_not_there_is_missing(self, provider: Provider) -> None:
        provider.know("alice")
        assert provider.ask("nosuch") is Existence.MISSING

    def test_a_source_that_knows_nobody_knows_nothing(self, provider: Provider) -> None:
        provider.know()
        assert provider.ask("alice") is Existence.UNKNOWN

    def test_new_people_are_known_at_once(self, provider: Provider) -> None:
        provider.know("alice", "bob")
        assert provider.ask("carol") is Existence.MISSING
        provider.know("alice", "bob", "carol")
        assert provider.ask("carol") is Existence.EXISTS

    @pytest.mark.parametrize("nasty", ["a b", "a\nb", "x" * 300, "\udce9", "alice\x00", "*", "ß", "-q"])
    def test_nasty_names_are_nobody(self, provider: Provider, nasty: str) -> None:
        provider.know("alice")
        assert provider.ask(nasty) is Existence.MISSING


class TestFile:
    @pytest.fixture
    def people(self, tmp_path: Path) -> OfFile:
        made = OfFile(tmp_path / "recipients")
        made.know(*(f"user{number}" for number in range(10)))
        assert made.ask("user3") is Existence.EXISTS
        return made

    def test_a_file_that_was_never_there_says_nothing(self, tmp_path: Path) -> None:
        people = OfFile(tmp_path / "none")
        assert people.ask("alice") is Existence.UNKNOWN
        assert "No such file" in people.troubles[0]

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda path: path.unlink(), "No such file"),
            (lambda path: path.write_text(""), "is empty"),
            (lambda path: path.write_text("# nobody\n"), "is empty"),
            (lambda path: path.write_text("user1\nus"), "newline"),
            (lambda path: path.write_text("user1\nuser2\n"), "more than half"),
        ],
    )
    def test_the_last_good_reading_is_kept(
        self, people: OfFile, damage: Callable[[Path], None], said: str
    ) -> None:
        damage(people.path)
        assert people.ask("user3") is Existence.EXISTS
        assert people.ask("nosuch") is Existence.MISSING
        assert said in people.troubles[0]

    def test_half_may_go(self, people: OfFile) -> None:
        people.know("user0", "user1", "user2", "user3", "user4")
        assert people.ask("user9") is Existence.MISSING
        assert not people.troubles

    def test_comments_case_and_whole_addresses(self, people: OfFile) -> None:
        people.path.write_text("# people\n Alice # of sales\nbob@ours.test\ncarol@else.test\n" + "x\ny\n" * 9)
        people.troubles.clear()
        assert people.ask("alice") is Existence.EXISTS
        assert people.ask("bob") is Existence.EXISTS
        assert people.ask("carol") is Existence.MISSING
        assert not people.troubles

    @pytest.mark.parametrize(
        ("line", "local"),
        [
            ("a#b", "a#b"),
            ("alice#of sales", "alice"),
            ("alice\t# of sales", "alice"),
            ('"john doe"@ours.test', "john doe"),
            ('"john #1"@Ours.Test # of sales', "john #1"),
            ("<ann@ours.test>", "ann"),
            ("ann@ours.test.", "ann"),
            ("mu\u0308ller", "m\u00fcller"),
            ("m\u00fcller", "mu\u0308ller"),
            ("two words", "two words"),
            ("no@address@else.test@", "no@address@else.test@"),
        ],
    )
    def test_what_a_line_names(self, people: OfFile, line: str, local: str) -> None:
        people.know(line)
        fresh = OfFile(people.path)
        assert fresh.ask(local) is Existence.EXISTS
        assert fresh.ask("nosuch") is Existence.MISSING

    @pytest.mark.parametrize(
        "octets", [b"\xef\xbb\xbfalice\nbob\n", b"alice\rbob\r", b"alice\r\nbob\r\n", b"alice\n\xfc\nbob\n"]
    )
    def test_marks_and_ends_of_lines_from_elsewhere(self, tmp_path: Path, octets: bytes) -> None:
        people = OfFile(tmp_path / "recipients")
        people.write(octets, 0)
        assert [people.ask(local) for local in ("alice", "bob", "nosuch")] == [
            *[Existence.EXISTS] * 2,
            Existence.MISSING,
        ]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
    def test_what_is_no_text_says_nothing(self, tmp_path: Path, encoding: str) -> None:
        people = OfFile(tmp_path / "recipients")
        people.write("alice\nbob\n".encode(encoding), 0)
        assert people.ask("alice") is Existence.UNKNOWN
        assert "is no text" in people.troubles[0]

    @pytest.mark.parametrize(
        "written", ["b\u00fccher.example", "B\u00dcCHER.example.", "xn--bcher-kva.example"]
    )
    def test_a_domain_may_be_written_with_its_own_letters(self, tmp_path: Path, written: str) -> None:
        people = OfFile(tmp_path / "recipients")
        people.know(f"bob@{written}")
        for local, existence in (("bob", Existence.EXISTS), ("nosuch", Existence.MISSING)):
            answer = people.source.existence("xn--bcher-kva.example", (local,), None, 1000.0, 0.0)
            assert answer is existence

    def test_a_domain_alone_stands_for_everybody(self, people: OfFile) -> None:
        people.know("alice", "@Ours.Test", "@else.test", *(f"user{number}" for number in range(5)))
        assert people.ask("alice") is Existence.EXISTS
        assert people.ask("nosuch") is Existence.ANYBODY

    def test_a_pipe_in_its_place_holds_up_nobody(self, people: OfFile) -> None:
        people.path.unlink()
        os.mkfifo(people.path)
        assert people.ask("user3") is Existence.EXISTS
        assert "is no file" in people.troubles[0]

    def test_a_file_that_is_being_written_in_its_place_has_lost_nobody(self, people: OfFile) -> None:
        lines = [f"user{number}\n".encode() for number in range(10)]
        for length in (6, 8):
            people.write(b"new\n" + b"".join(lines[:length]), 1e6)
            answers = {local: people.ask(local, now=1e6 + length / 5) for local in ("new", "user9", "nosuch")}
            assert answers == {
                "new": Existence.EXISTS,
                "user9": Existence.EXISTS,
                "nosuch": Existence.MISSING,
            }
        people.write(b"", 1e6 + 1.8)
        assert people.ask("new", now=1e6 + 10) is Existence.EXISTS
        people.write(b"".join(lines[:9]), 1e6 + 12)
        assert people.ask("user9", now=1e6 + 13) is Existence.EXISTS
        assert people.ask("user9", now=1e6 + 14) is Existence.MISSING
        assert people.ask("new", now=1e6 + 14) is Existence.MISSING

    def test_of_a_first_reading_of_a_file_that_is_being_written_nobody_is_missing(
        self, tmp_path: Path
    ) -> None:
        people = OfFile(tmp_path / "recipients")
        people.write(b"alice\n", 1e6)
        assert people.ask("alice", now=1e6) is Existence.EXISTS
        assert people.ask("bob", now=1e6) is Existence.UNKNOWN
        assert "is being written" in people.troubles[0]
        people.write(b"alice\nbob\n", 1e6 + 1)
        assert people.ask("bob", now=1e6 + 1) is Existence.EXISTS
        assert people.ask("carol", now=1e6 + 1) is Existence.UNKNOWN
        assert people.ask("carol", now=1e6 + 3) is Existence.MISSING

    def test_a_file_of_tomorrow_is_believed_after_a_while(self, people: OfFile) -> None:
        people.write(b"other\n" * 20 + b"".join(b"user%d\n" % number for number in range(9)), 2e6)
        assert people.ask("user9", now=1e6) is Existence.EXISTS
        assert people.ask("user9", now=1e6 + SETTLED_SECONDS) is Existence.MISSING

    def test_it_is_looked_at_once_a_second(self, people: OfFile) -> None:
        assert people.ask("user3", now=100.0) is Existence.EXISTS
        people.know(*(f"other{number}" for number in range(10)))
        assert people.ask("user3", now=100.5) is Existence.EXISTS
        assert people.ask("user3", now=101.5) is Existence.MISSING

    def test_a_clock_that_goes_back_does_not_stop_it(self, people: OfFile) -> None:
        people.know(*(f"other{number}" for number in range(10)))
        assert people.ask("other3", now=-(10**9)) is Existence.EXISTS
        assert people.ask("user3", now=-(10**9) + SETTLED_SECONDS) is Existence.MISSING


def test_the_mail_server_says_only_what_it_refuses() -> None:
    source = MtaSource()
    assert not source.commands("ours.test", ("alice",))
    assert source.existence("ours.test", ("alice",), (), 0.0, 0.0) is Existence.NOT_ASKED


def test_redis_away_is_unknown() -> None:
    assert RedisSource().existence("ours.test", ("alice",), None, 0.0, 0.0) is Existence.UNKNOWN


@pytest.mark.parametrize(
    ("answers", "together"),
    [
        ((), Existence.NOT_ASKED),
        ((Existence.NOT_ASKED,), Existence.NOT_ASKED),
        ((Existence.NOT_ASKED, Existence.MISSING), Existence.MISSING),
        ((Existence.UNKNOWN, Existence.EXISTS), Existence.EXISTS),
        ((Existence.MISSING, Existence.EXISTS), Existence.MISSING),
        ((Existence.UNKNOWN, Existence.NOT_ASKED), Existence.UNKNOWN),
        ((Existence.ANYBODY, Existence.UNKNOWN), Existence.UNKNOWN),
        ((Existence.ANYBODY, Existence.NOT_ASKED), Existence.ANYBODY),
        ((Existence.ANYBODY, Existence.MISSING), Existence.MISSING),
    ],
)
def test_the_first_that_knows_is_believed(answers: tuple[Existence, ...], together: Existence) -> None:
    assert first_answer(answers) is together
