"""A grammar of envelope addresses, ordinary, odd and hostile, drawn from any source of chance.

One grammar serves Hypothesis, which can then shrink what it found, and loops of a million.
"""

from collections.abc import Callable
from random import Random

_ATOM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~"
_LETTERS = _ATOM[:62]
_NASTY = (
    "\0\t\n\r\x1b\x7f\x80\x85\xa0\xad\u0130\u017f\u0308\u200d\u2028\u202e\u3002\ufe0f\ufeff\uff20"
    '\udc80\udcff\ud800\udfff\U0001f4a9 @<>()[]\\,;:".%=+'
)
_LENGTHS = (1, 1, 2, 3, 5, 8, 8, 12, 20, 31, 47, 48, 49, 63, 64, 65, 300, 1000)
_TAGGED = (
    "prvs=1461ceb0c9={}",
    "PRVS=1461CEB0C9={}",
    "prvs={}=1461ceb0c9",
    "{}+prvs=1461ceb0c9",
    "{}-PRVS=1461ceb0c9",
    "prvs=10={}",
    "btv1==0123456789a=={}",
    "msprvs1=20454abc={}",
    "SRS0=HHH=TT=example.org={}",
    "SRS1=HHH=relay.example==HHH=TT=example.org={}",
    "{}+d-1461ceb0c9",
    "prvs={}",
    "{}=1461ceb0c9",
)


def _text(random: Random, alphabet: str, length: int) -> str:
    # Long ones repeat themselves: it is their length that matters, and chance is slow.
    piece = "".join(random.choice(alphabet) for _ in range(min(length, 9)))
    return (piece * (length // 9 + 1))[:length]


def _atom(random: Random) -> str:
    return _text(random, _LETTERS, random.choice(_LENGTHS))


def _symbols(random: Random) -> str:
    return _text(random, _ATOM + ".", random.choice(_LENGTHS))


def _extended(random: Random) -> str:
    return f"{_atom(random)[:20]}{random.choice('+-.=%!')}{_atom(random)[:20]}"


def _unicode(random: Random) -> str:
    return (
        random.choice(("müller", "mu\u0308ller", "MÜLLER", "用户", "m\udcfcller", "ΑΣ", "İ", "ǰ", "\u0301"))
        + _atom(random)[:9]
    )


def _quoted(random: Random) -> str:
    inside = _text(random, _LETTERS + _NASTY, random.choice(_LENGTHS[:12]))
    return random.choice((f'"{inside}"', '"' + inside.replace("\\", "\\\\").replace('"', '\\"') + '"', '""'))


def _tagged(random: Random) -> str:
    return random.choice(_TAGGED).format(random.choice((_atom, _extended, _unicode))(random)[:40])


def _nasty(random: Random) -> str:
    return _text(random, _LETTERS[:5] + _NASTY, random.choice(_LENGTHS[:12]))


_LOCALS: tuple[Callable[[Random], str], ...] = (
    _atom,
    _symbols,
    _extended,
    _unicode,
    _quoted,
    _tagged,
    _nasty,
)
_DOMAINS: tuple[Callable[[Random], str], ...] = (
    lambda random: random.choice(("example.com", "Example.COM", "sub.example.org", "example.com.", "a")),
    lambda random: random.choice(
        ("Bücher.example", "xn--bcher-kva.example", "bu\u0308cher.example", "straße.example")
    ),
    lambda random: random.choice(
        ("[192.0.2.1]", "[IPv6:2001:db8::1]", "[x", "]", "", ".", "..", "a..b", "-a", "ex_ample")
    ),
    lambda random: ".".join(_atom(random) for _ in range(random.randrange(1, 5))),
    _nasty,
)


def odd_path(random: Random) -> str:
    """One argument of MAIL or RCPT."""
    path = random.choice(_LOCALS)(random)
    if random.random() < 0.95:
        path += "@" + random.choice(_DOMAINS)(random)
    if random.random() < 0.1:
        path = random.choice(("@relay.example:", "@a.example,@b.example:", "@", "@:", "@[192.0.2.1]:")) + path
    if random.random() < 0.1:
        at = random.randrange(len(path) + 1)
        path = path[:at] + random.choice(_NASTY) + path[at + random.randrange(2) :]
    return f"<{path}>" if random.random() < 0.7 else path


def plain_path(random: Random) -> str:
    """One that a tag fits on, not tagged yet."""
    local = random.choice((_atom, _extended))(random)[: random.choice((1, 8, 47, 48))]
    return f"{local}@{random.choice(_DOMAINS[:2])(random)}"
