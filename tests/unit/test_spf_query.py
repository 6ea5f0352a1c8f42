"""SPF evaluations of records nobody would publish in earnest, with answers made up: no server is asked."""

import random
import time
from collections.abc import Callable
from typing import cast

import pytest

from backstop.adapters.resolver import Answer, Budget, Exchange, Outcome, Resolver
from backstop.adapters.spf_query import Client, Evaluation, evaluate
from backstop.authentication import SpfResult

ABSENT, TEMPORARY = Answer(Outcome.ABSENT), Answer(Outcome.TEMPORARY)


class MadeUp:
    """Says of each name what a function says."""

    def __init__(self, says: Callable[[str, str], Answer]) -> None:
        self._says = says

    def __getattr__(self, kind: str) -> Callable[..., Answer]:
        return lambda name, _budget: self._says(kind, name)


def evaluation(
    says: Callable[[str, str], Answer], local: str = "user", helo: str = "h.example"
) -> Evaluation:
    client = Client("192.0.2.10", helo, local, "example.com")
    return evaluate(client, cast("Resolver", MadeUp(says)), Budget())


def endless(terms: str) -> Callable[[str, str], Answer]:
    """Records with these terms, each of which includes the next one; a thousand answers to all else."""

    def says(kind: str, name: str) -> Answer:
        if kind == "txt":
            number = int(name.split(".", maxsplit=1)[0][1:]) if name.startswith("i") else 0
            return Answer(Outcome.FOUND, (f"v=spf1 {terms} include:i{number + 1}.example.com -all".encode(),))
        if kind == "a":
            return Answer(Outcome.FOUND, tuple(f"10.0.{at // 250}.{at % 250}" for at in range(180)))
        if kind == "mx":
            return Answer(Outcome.FOUND, tuple(Exchange(at, f"h{at}.example.com") for at in range(10)))
        return Answer(Outcome.FOUND, tuple(f"h{at}.example.com" for at in range(180)))

    return says


class TestTime:
    """A tenth of a second is five times what the worst of these takes."""

    @pytest.mark.parametrize(
        "terms",
        [
            "a:a." + "a" * 300 + "!",
            " ".join("exists:" + "%{d}." * 3 + "a" * 250 + ".b" for _ in range(10)),
            " ".join(f"foo{at}=" + "%{S}" * 75 for at in range(12)),
            " ".join(f"foo{at}=" + "%{lr.}" * 50 for at in range(12)),
            " ".join(f"foo{at}=" + ".%%" * 100 for at in range(12)),
            " ".join(f"ip4:10.0.{at // 250}.{at % 250}" for at in range(250)),
            " ".join(f"a:x{at}.example.com" for at in range(10)),
            " ".join(f"mx:x{at}.example.com" for at in range(10)),
            " ".join(f"ptr:x{at}.example.com" for at in range(10)),
            " ".join(f"a{at}=b" for at in range(450)),
            "x" * 4000,
        ],
        ids=lambda terms: terms[:20],
    )
    @pytest.mark.parametrize("local", ["user", "ü" * 900, "x." * 450])
    def test_records_that_cost(self, terms, local) -> None:
        took = []
        for _ in range(3):
            began = time.thread_time()
            assert evaluation(endless(terms), local, "%{s}." * 300).result in SpfResult
            took.append(time.thread_time() - began)
        assert min(took) < 0.1


class TestDependence:
    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ("v=spf1 -all", False),
            ("v=spf1 exists:%{d}.%{i}.%{v}.%{o}.%{p}.example.com -all", False),
            ("v=spf1 exists:%{l}.example.com -all", True),
            ("v=spf1 exists:%{S}.example.com -all", True),
            ("v=spf1 exists:%{h2}.example.com -all", True),
            ("v=spf1 redirect=%{l1r-}.example.com", True),
        ],
    )
    def test_what_is_personal(self, record, expected) -> None:
        def says(kind: str, _name: str) -> Answer:
            return Answer(Outcome.FOUND, (record.encode(),)) if kind == "txt" else ABSENT

        assert evaluation(says).is_personal is expected


WORDS = (
    *(
        "all",
        "-all",
        "include:",
        "a",
        "a:",
        "mx",
        "mx:",
        "ptr",
        "ptr:",
        "exists:",
        "ip4:",
        "ip6:",
        "redirect=",
    ),
    *("exp=", "foo=", "%{", "}", "%", "%%", "%_", "%{s}", "%{l}", "%{ir}", "%{p}", "%{h}", "%{c}", "%{d2r-}"),
    *(
        "%{d9999999999}",
        "%{L}",
        "/",
        "//",
        "/24",
        "//64",
        "/33",
        "192.0.2.10",
        "1.2.3",
        "::1",
        "2001:db8::",
        ":",
    ),
    *("=", ".", "..", "~", ",", "\x00", "\n", "\r", "\t", "\xff", "example.com", "a.example.com", "x" * 64),
    *("9" * 200, "[", "\\", '"', "@", " "),
)

MECHANISMS = ("include:", "a:", "mx:", "ptr:", "exists:", "redirect=", "foo=", "exp=")
NAMES = ("a.", "%{l}.", "%{s}.", "%{d}.", "%{ir}.", "%{p}.", "%{h}.", "%{d2r-}.", "%{L}.", "%%.", "%_")


class TestChance:
    @pytest.mark.parametrize("count", [3000, pytest.param(300_000, marks=pytest.mark.deep)])
    def test_whatever_is_published_there_is_a_result(self, count) -> None:
        chance = random.Random(count)
        for _ in range(count):
            local = chance.choice(["user", "", "\udcff", "ü", "%{s}", "a@b", "x." * 400])
            helo = chance.choice(["mail.example.net", "%{l}", "", "\udcff", "x" * 2000, "a b\r\n"])
            assert evaluation(lambda kind, _name: said(chance, kind), local, helo).result in SpfResult


def said(chance: random.Random, kind: str) -> Answer:
    if chance.random() < 0.13:
        return chance.choice([ABSENT, ABSENT, TEMPORARY])
    one = {
        "txt": lambda: record(chance),
        "a": lambda: chance.choice(["192.0.2.10", "10.0.0.1"]),
        "aaaa": lambda: chance.choice(["::1", "2001:db8::10"]),
        "mx": lambda: Exchange(chance.randrange(3), host(chance)),
        "ptr": lambda: host(chance),
    }[kind]
    many = [1, 1, 1, 2] if kind == "txt" else [1, 1, 2, 12]
    return Answer(Outcome.FOUND, tuple(one() for _ in range(chance.choice(many))))


def host(chance: random.Random) -> str:
    return chance.choice(["a.example.com", ".", "", "x..y", "\\000.a" + "b" * 63, "%{l}", "Ã¼", "a\\.b"])


def record(chance: random.Random) -> bytes:
    terms = [term(chance) for _ in range(chance.choice([1, 2, 4, 8, 20]))]
    if chance.random() < 0.2:
        terms.append("".join(chance.choices(WORDS, k=5)))
    return f"v=spf1 {' '.join(terms)}".encode("latin-1")


def term(chance: random.Random) -> str:
    name = "".join(chance.choices(NAMES, k=chance.randrange(3))) + chance.choice(
        ["example.com", "%{d}", "b.example."]
    )
    network = chance.choice(
        ["ip4:192.0.2.1", "ip4:10.0.0.0/8", "ip6:::/0", "ip6:::ffff:1.2.3.4", "a/8", "mx", "all"]
    )
    text = chance.choice(["", "-", "~", "?"]) + chance.choice([chance.choice(MECHANISMS) + name, network])
    if chance.random() < 0.06:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(WORDS) + text[at + chance.randrange(2) :]
    return text
