"""Questions to slow sources through a real asker process: its answers, and what happens without them."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backstop.adapters.asker_client import MAX_IDLE, AskedSource, AskerClient, Question, knock, make_door
from backstop.facts import Existence
from backstop.settings import parse_source
from tests.harness.asker_process import AskerProcess
from tests.harness.frozen import frozen
from tests.harness.waiting import wait_for

PATIENCE = 5.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AskerProcess]:
    """One that is not harmed."""
    with AskerProcess(tmp_path_factory.mktemp("asker")) as asker:
        yield asker


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[AskerProcess]:
    with AskerProcess(tmp_path) as asker:
        assert ask(asker, "people", "alice", seconds=20) is not None  # it has started
        yield asker


def ask(asker: AskerProcess, word: str, *locals_: str, seconds: float = PATIENCE) -> Existence | None:
    return asker.client.ask(Question(f"sql:{word}", "ours.test", locals_, time.monotonic() + seconds))


class TestAnswers:
    def test_who_is_there_and_who_is_not(self, shared: AskerProcess) -> None:
        shared.know("alice")
        assert ask(shared, "people", "alice") is Existence.EXISTS
        assert ask(shared, "people", "bob") is Existence.MISSING

    def test_the_wider_address_is_enough(self, shared: AskerProcess) -> None:
        shared.know("alice")
        assert ask(shared, "people", "alice+shop", "alice") is Existence.EXISTS
        shared.know("bob+shop")
        assert ask(shared, "people", "bob+shop", "bob") is Existence.EXISTS

    def test_a_source_that_is_not_named_in_the_configuration_is_unknown(self, shared: AskerProcess) -> None:
        assert ask(shared, "strangers", "alice") is Existence.UNKNOWN

    def test_an_answer_is_kept_for_all(self, shared: AskerProcess) -> None:
        others = [AskerClient(shared.client._door) for _ in range(3)]
        before = shared.asked
        for client in (shared.client, *others):
            for local in ("alice", "eve"):
                question = Question("sql:kept", "ours.test", (local,), time.monotonic() + PATIENCE)
                assert client.ask(question) is (Existence.EXISTS if local == "alice" else Existence.MISSING)
            client.close()
        assert shared.asked == before + 2

    def test_a_bug_is_unknown_and_written_down(self, shared: AskerProcess) -> None:
        assert ask(shared, "bug", "alice") is Existence.UNKNOWN
        wait_for(lambda: "RuntimeError: told to fail" in shared.log(), 5, "the traceback")
        assert ask(shared, "late", "alice") is Existence.EXISTS

    def test_an_address_too_long_for_a_question_is_nobodys(self, shared: AskerProcess) -> None:
        assert ask(shared, "people", "x" * 70_000) is None
        assert ask(shared, "kept", "x" * 60_000) is Existence.MISSING

    @pytest.mark.parametrize("nasty", ["a\nb", "\udce9", "alice\x00", '"]', "ß", "-q"])
    def test_nasty_names_come_through_as_they_are(self, shared: AskerProcess, nasty: str) -> None:
        assert ask(shared, "kept", nasty) is Existence.MISSING

    @pytest.mark.parametrize("packet", [b"", b"x", b"[]", b'["a","b",[],1.0]', b"[" * 60_000, b"\xff" * 100])
    def test_what_is_no_question_ends_the_conversation(self, shared: AskerProcess, packet: bytes) -> None:
        conversation = knock(shared.client._door)
        assert conversation is not None
        with conversation:
            conversation.send(packet)
            conversation.settimeout(5)
            assert not packet or conversation.recv(10) == b""
        assert ask(shared, "late", "alice") is Existence.EXISTS


class TestTime:
    @pytest.mark.parametrize(("word", "answer"), [("hung", Existence.UNKNOWN), ("deaf", None)])
    def test_a_source_that_hangs_is_unknown_at_the_deadline(
        self, asker: AskerProcess, word: str, answer: Existence | None
    ) -> None:
        began = time.monotonic()
        assert ask(asker, word, "alice", seconds=0.5) is answer
        assert time.monotonic() - began < 2

    def test_who_exists_goes_on_existing_while_a_source_hangs(self, asker: AskerProcess) -> None:
        """What is known of them comes at the deadline, when the source has had its time."""
        known = [f"known{number}" for number in range(16)]
        assert {ask(asker, "frozen", local) for local in known} == {Existence.EXISTS}
        with ThreadPoolExecutor(len(known)) as threads:
            answers = list(threads.map(lambda local: ask(asker, "frozen", local, seconds=0.3), known))
        assert set(answers) == {Existence.EXISTS}

    def test_others_go_on_while_one_hangs(self, asker: AskerProcess) -> None:
        asker.know("alice")
        with ThreadPoolExecutor(40) as threads:
            hung = [threads.submit(ask, asker, "hung", f"x{number}", seconds=3) for number in range(40)]
            # 32 of them are sought; the others are told at once
            wait_for(lambda: sum(one.done() for one in hung) >= 8, 2, "the answers that are told at once")
            began = time.monotonic()
            assert ask(asker, "people", "alice") is Existence.EXISTS
            assert time.monotonic() - began < 2
            assert sum(one.done() for one in hung) == 8
            assert {one.result() for one in hung} <= {Existence.UNKNOWN, None}
        assert ask(asker, "late", "alice") is Existence.EXISTS

    def test_many_questions_at_once_get_their_own_answers(self, asker: AskerProcess) -> None:
        def both(number: int) -> bool:
            return (
                ask(asker, "kept", "alice") is Existence.EXISTS
                and ask(asker, "kept", f"user{number}") is Existence.MISSING
            )

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(both, range(300)))

    def test_a_deadline_that_has_passed_asks_nobody(self, asker: AskerProcess) -> None:
        assert ask(asker, "kept", "alice", seconds=-1) is None
        assert asker.asked == 0


class TestFalls:
    def test_a_killed_asker_is_unknown_and_the_next_one_answers(self, asker: AskerProcess) -> None:
        asker.kill()
        assert ask(asker, "late", "alice", seconds=0.3) is None
        asker.start()
        assert ask(asker, "late", "alice") is Existence.EXISTS

    def test_a_question_waits_at_the_door_for_the_next_asker(self, asker: AskerProcess) -> None:
        asker.kill()
        starter = threading.Timer(0.2, asker.start)
        starter.start()
        assert ask(asker, "late", "alice") is Existence.EXISTS
        starter.join()

    def test_a_question_under_way_is_put_once_more(self, asker: AskerProcess) -> None:
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(ask, asker, "late", "alice")
            time.sleep(0.1)
            asker.kill()
            asker.start()
            assert answer.result() is Existence.EXISTS

    def test_a_question_that_kills_does_so_twice_and_no_more(self, asker: AskerProcess) -> None:
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(ask, asker, "fatal", "alice")
            for _ in range(2):
                asker._process.wait(10)  # type: ignore[union-attr]  # it was started
                asker.start()
            assert answer.result(10) is None
        assert ask(asker, "late", "alice") is Existence.EXISTS

    def test_a_frozen_asker_is_unknown_in_time(self, asker: AskerProcess) -> None:
        with frozen(asker.pid):
            began = time.monotonic()
            assert ask(asker, "people", "alice", seconds=0.5) is None
            assert time.monotonic() - began < 2
        assert ask(asker, "late", "alice") is Existence.EXISTS

    def test_a_door_that_is_full_is_unknown_at_once(self) -> None:
        inner, outer = make_door()
        client = AskerClient(outer)
        with inner, outer:
            while visitor := knock(outer):
                visitor.close()
            began = time.monotonic()
            assert client.ask(Question("sql:x", "ours.test", ("x",), began + PATIENCE)) is None
            assert time.monotonic() - began < 2

    def test_it_ends_when_nobody_is_left(self, asker: AskerProcess) -> None:
        assert asker.leave() == 0


class TestThrift:
    def test_questions_leave_no_descriptor_behind(self, asker: AskerProcess) -> None:
        def ours() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: ask(asker, "kept", f"a{number}"), range(100)))
            before = ours(), asker.descriptors()
            list(threads.map(lambda number: ask(asker, "kept", f"b{number}"), range(400)))
            list(threads.map(lambda _: ask(asker, "deaf", "alice", seconds=0.01), range(20)))
        assert len(asker.client._idle) <= MAX_IDLE
        assert ours() <= before[0]
        # Those that nobody waits for any more are known by their threads, which never end here.
        assert asker.descriptors() <= before[1] + 20

    def test_conversations_that_were_left_are_closed(self, asker: AskerProcess) -> None:
        ask(asker, "kept", "alice")
        before = asker.descriptors()
        for number in range(5):
            assert ask(asker, "late", f"bob{number}", seconds=0.01) is None
        wait_for(lambda: asker.descriptors() <= before, 5, "the conversations to be closed")


def test_what_the_decision_sees_of_a_source(asker: AskerProcess) -> None:
    troubles: list[str] = []
    source = AskedSource(parse_source("sql:late"), asker.client, troubles.append)
    assert not source.commands("ours.test", ["alice"])
    assert source.existence("ours.test", ["alice"], None, 0.0, time.monotonic() + 5) is Existence.EXISTS
    assert not troubles
    asker.kill()
    assert source.existence("ours.test", ["bob"], None, 0.0, time.monotonic() + 0.1) is Existence.UNKNOWN
    assert troubles == ["recipient source sql:late: nobody answered in time"]
