"""The key file: refused with all its faults and none of its secrets, written whole or not at all."""

import os
import random
import resource
import signal
import stat
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backstop.address import parse as parse_address
from backstop.batv import KeyRing, KeyState, TagForm, TagState, sign, verify
from backstop.batv import parse as parse_tag
from backstop.keyfile import (
    KeyFileError,
    TagsUnderWay,
    import_key,
    load,
    new_key,
    parse,
    raise_lifetime,
    read,
    retire,
    retire_at_once,
    rotate,
    text_of,
    write,
)

TODAY = 20778  # 2026-11-21
SECRET = "correct horse battery staple"
HEX = "00112233445566778899aabbccddeeff"

GOOD = f"""\
[memory]
secret_hex = "{HEX}"

[[key]]
number = 1
secret = "{SECRET}"
state = "sign"
domains = ["*"]
created = 2026-11-21
max_lifetime = "11d"
"""

SECOND = """
[[key]]
number = 2
secret_hex = "ffeeddccbbaa99887766554433221100"
state = "verify"
domains = ["Example.COM", "bücher.example"]
created = 2026-10-01
max_lifetime = "20d"
verify_since = 2026-11-21
"""


def ring_of(text):
    octets = text if isinstance(text, bytes) else text.encode()
    ring, faults = parse(octets, TODAY)
    assert faults == ()
    return ring


def faults_of(text):
    octets = text if isinstance(text, bytes) else text.encode()
    return parse(octets, TODAY)[1]


def same(one, other):
    return one.keys == other.keys and one.memory_secret == other.memory_secret


def test_a_key_file_as_the_manual_shows_it():
    one, two = ring_of(GOOD + SECOND).keys
    assert (one.number, one.secret, one.state, one.domains) == (1, SECRET.encode(), KeyState.SIGN, ("*",))
    assert (one.created, one.max_lifetime, one.verify_since) == (TODAY, 11, None)
    assert (two.number, two.secret[:2], two.state) == (2, b"\xff\xee", KeyState.VERIFY)
    assert two.domains == ("example.com", "xn--bcher-kva.example")
    assert (two.max_lifetime, two.verify_since) == (20, TODAY)
    assert ring_of(GOOD).memory_secret == bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD.split("\n\n")[1],  # without a memory
        GOOD.replace('max_lifetime = "11d"', 'max_lifetime = "1d"'),
        GOOD.replace('max_lifetime = "11d"', 'max_lifetime = "100d"'),
        GOOD.replace("2026-11-21", "2026-11-22"),  # a clock may be a day behind
        GOOD.replace("number = 1", "number = 0"),
        GOOD.replace(f'secret = "{SECRET}"', 'secret = "0123456789abcdef"'),
        GOOD + SECOND.replace('"verify"', '"retired"'),
        # A number may serve twice where the domains differ, or where a key is retired.
        GOOD.replace('"*"', '"a.example"') + SECOND.replace("number = 2", "number = 1"),
        GOOD + SECOND.replace('"verify"', '"retired"').replace("number = 2", "number = 1"),
        # A key for one domain signs beside the one for all.
        GOOD + SECOND.replace('"verify"', '"sign"').replace("verify_since = 2026-11-21", ""),
    ],
)
def test_what_is_in_order(text):
    assert ring_of(text).keys


# What is wrong, on which line, and a word of what is said. GOOD has its key on line 4.
FAULTS = [
    ("", 1, "empty"),
    (" \n\r\n\t", 1, "empty"),
    (b"\xef\xbb\xbf" + GOOD.encode(), 1, "byte order mark"),
    (GOOD.encode("utf-16"), 1, "UTF-16"),
    (os.urandom(4) + b"\xff\xfe\x00" * 100, 1, "UTF-8"),
    (GOOD.replace("staple", "st\0ple"), 6, "NUL"),
    (GOOD + "\nthis is no TOML", 12, "not TOML"),
    (GOOD + f'\nsecret = "{SECRET}', 12, "not TOML"),
    (GOOD.replace("number = 1", "number = 1\nnumber = 1"), 6, "twice"),
    (GOOD + '\n[other]\nx = "y"', 12, "nothing else"),
    (GOOD.replace("[memory]", "memory = 1\n[other]"), 1, "[memory]"),
    (GOOD.replace("secret_hex", "secrets"), 2, "nothing else"),
    (GOOD.replace(HEX, "00"), 2, "too few"),
    (GOOD.replace("[[key]]", "[key]"), 4, "[[key]]"),
    ("key = 1", 1, "[[key]]"),
    ('key = ["x"]', 1, "[[key]]"),
    (GOOD.replace("number = 1", "number = 10"), 5, "digit"),
    (GOOD.replace("number = 1", "number = -1"), 5, "digit"),
    (GOOD.replace("number = 1", 'number = "1"'), 5, "digit"),
    (GOOD.replace("number = 1", "number = true"), 5, "digit"),
    (GOOD.replace("number = 1", "number = 1.0"), 5, "digit"),
    (GOOD.replace("number = 1\n", ""), 4, "no number"),
    (GOOD.replace(SECRET, "fifteen octets!"), 6, "too few"),
    (GOOD.replace(SECRET, ""), 6, "too few"),
    (GOOD.replace(f'"{SECRET}"', "12345678901234567"), 6, "quotes"),
    (GOOD.replace(f'secret = "{SECRET}"', ""), 4, "no secret"),
    (GOOD.replace('state = "sign"', f'secret_hex = "{HEX}11"\nstate = "sign"'), 7, "both"),
    (GOOD.replace(f'secret = "{SECRET}"', f'secret_hex = "{HEX}1"'), 6, "hexadecimal"),
    (GOOD.replace(f'secret = "{SECRET}"', f'secret_hex = "{HEX[:-1]}x"'), 6, "hexadecimal"),
    (GOOD.replace(f'secret = "{SECRET}"', "secret_hex = 11223344556677889900112233445566"), 6, "hexadecimal"),
    (GOOD.replace('"sign"', '"Sign"'), 7, '"retired"'),
    (GOOD.replace('"sign"', "true"), 7, '"retired"'),
    (GOOD.replace('["*"]', '"*"'), 8, "list"),
    (GOOD.replace('["*"]', "[]"), 8, "list"),
    (GOOD.replace('["*"]', "[1]"), 8, "list"),
    (GOOD.replace('["*"]', '["example.com", "*.example.com"]'), 8, "entry 2"),
    (GOOD.replace("2026-11-21", '"2026-11-21"'), 9, "without quotes"),
    (GOOD.replace("2026-11-21", "2026-11-21T12:00:00Z"), 9, "a day such as"),
    (GOOD.replace("2026-11-21", "2026-11-23"), 9, "still to come"),
    (GOOD.replace('"11d"', "11"), 10, "quotes"),
    (GOOD.replace('"11d"', '"11"'), 10, "12h"),
    (GOOD.replace('"11d"', '"36h"'), 10, "whole days"),
    (GOOD.replace('"11d"', '"0d"'), 10, "whole days"),
    (GOOD.replace('"11d"', '"101d"'), 10, "whole days"),
    (GOOD.replace("max_lifetime", "lifetime"), 10, "known are"),
    (GOOD + "verify_since = 2026-11-21\n", 11, "signs"),
    (GOOD + SECOND.replace("number = 2", "number = 1"), 13, "domains in common"),
    (
        GOOD + SECOND.replace('["Example.COM", "bücher.example"]', '["*"]').replace("2", "1", 1),
        13,
        "in common",
    ),
    (
        GOOD
        + SECOND.replace('["Example.COM", "bücher.example"]', '["*"]').replace('"verify"', '"sign"')[:-26],
        15,
        "both sign",
    ),
    (
        GOOD + SECOND.replace("ffeeddccbbaa99887766554433221100", SECRET.encode().hex()),
        12,
        "the secret of key 1",
    ),
]


@pytest.mark.parametrize(("text", "line", "said"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_told_with_its_line_and_never_with_a_secret(text, line, said):
    faults = faults_of(text)
    assert any(place == line and said in told for place, told in faults), faults
    told = "\n".join(text for _, text in faults)
    for secret in (SECRET, "staple", HEX, "ffeeddcc", "fifteen", "12345678901234567"):
        assert secret not in told


def test_all_faults_at_once(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(GOOD.replace("number = 1", "number = 11").replace('"sign"', '"x"').replace("11d", "11y"))
    path.chmod(0o644)
    with pytest.raises(KeyFileError) as raised:
        load(path)
    assert len(raised.value.faults) == 4
    assert str(raised.value) == "\n".join(raised.value.faults)
    assert raised.value.faults[0].startswith(f"{path}: others can read it (mode 0644)")
    assert raised.value.faults[1].startswith(f"{path}:5: number: ")
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


# ---- files, owners, modes ----


def key_file(folder, text=GOOD, mode=0o400):
    path = folder / "keys.toml"
    today = datetime.now(UTC).date().isoformat()
    path.write_text(text.replace("2026-11-21", today))
    path.chmod(mode)
    return path


def refusal(path):
    with pytest.raises(KeyFileError) as raised:
        load(path)
    assert SECRET not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_what_is_not_there_or_no_file(tmp_path):
    assert "backstop key new" in refusal(tmp_path / "keys.toml")
    assert "no ordinary file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no ordinary file" in refusal(tmp_path / "pipe")
    assert "no ordinary file" in refusal(Path("/dev/zero"))
    assert "no name of a file" in refusal(Path("a\0b"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in refusal(tmp_path / "loop")
    (tmp_path / "large").write_bytes(b"#" * 1_000_001)
    assert "larger" in refusal(tmp_path / "large")


@pytest.mark.parametrize(
    "text", [GOOD.replace('"sign"', '"verify"'), GOOD.split("[[key]]", maxsplit=1)[0], "# nothing\n"]
)
def test_a_file_in_which_no_key_signs_is_good_for_mending_only(tmp_path, text):
    path = key_file(tmp_path, text)
    assert "no key signs" in refusal(path)
    assert new_key(read(path), ["*"], TODAY, 11).signer("example.com")


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_our_own_is_read(tmp_path, mode):
    assert load(key_file(tmp_path, mode=mode)).keys


@pytest.mark.parametrize("mode", [0o404, 0o644, 0o640, 0o660, 0o420, 0o402, 0o401, 0o666])
def test_a_file_that_others_can_reach_is_refused(tmp_path, mode):
    path = key_file(tmp_path, mode=mode)
    os.chown(path, -1, 12345) if os.geteuid() == 0 else None
    assert f"mode {mode:04o}" in refusal(path)


@pytest.fixture
def shared_folder():
    """A folder that other users can enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def as_user(uid, act):
    """What `act` returns, a text, when another user runs it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                said = act() or "done"
            except KeyFileError as error:
                said = str(error)
            os.write(writer, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return said


def load_and_tell(path):
    return lambda: f"{len(load(path).keys)} keys"


@pytest.mark.parametrize(
    ("uid", "owner", "group", "mode", "said"),
    [
        (1234, 1234, 1234, 0o400, "1 keys"),
        # Root can read every file: who owns it is the service's business.
        (0, 1234, 1234, 0o400, "1 keys"),
        (0, 1234, 1234, 0o440, "others can read it"),
        # A credential of systemd, opened by an access list.
        (0, 0, 0, 0o440, "1 keys"),
        (0, 0, 0, 0o444, "others can read it"),
        (0, 0, 1234, 0o440, "others can read it"),
        (1234, 0, 1234, 0o440, "others can read it"),
        (1234, 0, 0, 0o400, "no permission"),
        (1234, 4321, 4321, 0o400, "no permission"),
        (1234, 4321, 1234, 0o440, "belongs to another user"),
    ],
)
def test_who_may_read_and_who_may_own_a_key_file(shared_folder, uid, owner, group, mode, said):
    path = key_file(shared_folder, mode=mode)
    if os.geteuid() == 0:
        os.chown(path, owner, group)
    assert said in as_user(uid, load_and_tell(path))


def test_what_is_written_reads_back_the_same(tmp_path):
    path = tmp_path / "keys.toml"
    ring = KeyRing(ring_of(GOOD + SECOND).keys, b"\0" * 16)
    for text in ("qu\"ote\\ä = ' and more", "line\nend of sixteen", "  blank at both ends  ", "🔑" * 5):
        ring = import_key(ring, text.encode(), ["example.org"], TODAY - 400, 30, state=KeyState.VERIFY)
    write(path, ring)
    assert same(load(path), ring)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    text = path.read_text()
    assert f'secret = "{SECRET}"' in text
    assert 'secret_hex = "ffeeddcc' in text
    assert [file.name for file in tmp_path.iterdir()] == ["keys.toml"]


def test_writing_keeps_owner_mode_and_link(shared_folder):
    real = key_file(shared_folder, mode=0o600)
    link = shared_folder / "link.toml"
    link.symlink_to("keys.toml")
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    before = real.stat()
    write(link, rotate(load(link), TODAY))
    after = real.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert after.st_ino != before.st_ino
    assert link.is_symlink()


def test_a_new_file_belongs_to_the_owner_of_its_folder(shared_folder):
    if os.geteuid() == 0:
        os.chown(shared_folder, 1234, 4321)
    path = shared_folder / "keys.toml"
    write(path, new_key(KeyRing(()), ["*"], TODAY, 11))
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (shared_folder.stat().st_uid, shared_folder.stat().st_gid)
    assert stat.S_IMODE(status.st_mode) == 0o400


def test_who_may_not_write_is_told_so_and_nothing_changes(shared_folder):
    path = key_file(shared_folder)
    ring = rotate(load(path), TODAY)
    before = path.read_bytes()
    assert "use sudo" in as_user(1234, lambda: write(path, ring))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = key_file(tmp_path)
    ring = rotate(load(path), TODAY)
    before = path.read_bytes()

    def write_on_a_full_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        write(path, ring)

    said = as_user(os.geteuid(), write_on_a_full_disk)
    assert "nothing is changed" in said
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["keys.toml"]


def test_a_rename_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "keys.toml"
    (path / "occupied").mkdir(parents=True)
    with pytest.raises(KeyFileError, match="nothing is changed"):
        write(path, ring_of(GOOD))
    assert [file.name for file in tmp_path.iterdir()] == ["keys.toml"]


def test_what_a_killed_command_left_is_used_again(tmp_path):
    path = key_file(tmp_path)
    (tmp_path / ".keys.toml.new").write_text("half a ke" * 1000)
    ring = rotate(load(path), TODAY)
    write(path, ring)
    assert same(load(path), ring)
    assert [file.name for file in tmp_path.iterdir()] == ["keys.toml"]


def kill_mid_write(path, rings, times):
    for _ in range(times):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    for ring in rings:
                        write(path, ring)
            finally:
                os._exit(1)
        time.sleep(random.uniform(0, 0.004))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert any(same(load(path), ring) for ring in rings)
    write(path, rings[0])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("times", [20, pytest.param(1000, marks=pytest.mark.deep)])
def test_a_kill_at_any_moment_leaves_a_file_that_can_be_read(tmp_path, times):
    path = key_file(tmp_path)
    one = load(path)
    kill_mid_write(path, [one, rotate(one, TODAY)], times)


# ---- what the commands do to a ring ----


def signed_by(ring, domain="example.com", today=TODAY, lifetime=11):
    address = parse_address(f"user@{domain}")
    return parse_tag(parse_address(sign(address, ring.signer(domain), today, lifetime, TagForm.PRVS)))


def test_the_first_key():
    ring = new_key(KeyRing(()), ["*"], TODAY, 11)
    [key] = ring.keys
    assert (key.number, key.state, key.domains, key.created, key.max_lifetime) == (
        1,
        KeyState.SIGN,
        ("*",),
        TODAY,
        11,
    )
    assert len(key.secret) == len(ring.memory_secret) == 32
    assert key.secret != ring.memory_secret
    assert new_key(KeyRing(()), ["*"], TODAY, 11).keys[0].secret != key.secret
    assert same(ring_of(text_of(ring)), ring)


def test_a_second_key_for_a_domain_of_its_own():
    ring = new_key(new_key(KeyRing(()), ["*"], TODAY, 11), ["example.com"], TODAY, 11)
    assert [key.number for key in ring.keys] == [1, 2]
    assert ring.signer("example.com").number == 2
    assert ring.signer("example.org").number == 1
    assert ring_of(text_of(ring)).keys == ring.keys


def test_a_domain_has_one_key_that_signs():
    ring = new_key(KeyRing(()), ["*"], TODAY, 11)
    with pytest.raises(ValueError, match="key 1 signs for"):
        new_key(ring, ["*"], TODAY, 11)


def test_a_number_is_asked_for_and_may_be_taken():
    ring = new_key(KeyRing(()), ["*"], TODAY, 11, number=7)
    assert ring.keys[0].number == 7
    with pytest.raises(ValueError, match="number 7 already"):
        new_key(ring, ["example.com"], TODAY, 11, number=7)


def test_rotation_loses_no_tag():
    before = new_key(KeyRing(()), ["*"], TODAY, 11)
    tag = signed_by(before)
    after = rotate(before, TODAY + 5)
    old, new = after.keys
    assert (old.state, old.verify_since, new.state, new.created) == (
        KeyState.VERIFY,
        TODAY + 5,
        KeyState.SIGN,
        TODAY + 5,
    )
    assert (new.number, new.domains, new.max_lifetime) == (2, ("*",), 11)
    assert after.memory_secret == before.memory_secret
    for today in range(TODAY, TODAY + 12):
        assert verify(tag, after, today) is TagState.GOOD
    assert verify(signed_by(after), after, TODAY) is TagState.GOOD
    assert parse(text_of(after).encode(), TODAY + 5)[1] == ()


def test_which_key_is_rotated():
    ring = new_key(new_key(KeyRing(()), ["*"], TODAY, 11), ["example.com", "example.org"], TODAY, 20)
    with pytest.raises(ValueError, match="name a domain"):
        rotate(ring, TODAY)
    assert [key.state.value for key in rotate(ring, TODAY, "example.org").keys] == ["sign", "verify", "sign"]
    assert [key.state.value for key in rotate(ring, TODAY, "example.net").keys] == ["verify", "sign", "sign"]
    assert rotate(ring, TODAY, "example.org").signer("example.com").max_lifetime == 20
    with pytest.raises(ValueError, match="no key signs"):
        rotate(KeyRing(()), TODAY)
    with pytest.raises(ValueError, match=r"no key signs for example\.net"):
        rotate(KeyRing(ring.keys[1:]), TODAY, "example.net")


def test_numbers_go_round_and_the_one_longest_unused_comes_first():
    ring = new_key(KeyRing(()), ["*"], TODAY, 11)
    numbers = [1]
    for turn in range(1, 25):
        today = TODAY + 20 * turn
        ring = rotate(ring, today)
        numbers.append(ring.signer("example.com").number)
        ring = retire(ring, numbers[-2], today + 13)
        assert parse(text_of(ring).encode(), today)[1] == ()
    assert numbers[:12] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


def test_ten_keys_in_use_are_all_there_can_be():
    ring = new_key(KeyRing(()), ["*"], TODAY, 11)
    for _ in range(9):
        ring = rotate(ring, TODAY)
    assert sorted(key.number for key in ring.keys) == list(range(10))
    with pytest.raises(ValueError, match="retire a key first"):
        rotate(ring, TODAY)


def test_a_key_is_not_retired_while_its_tags_can_come_back():
    before = new_key(KeyRing(()), ["*"], TODAY - 50, 11)
    ring = rotate(before, TODAY)
    tag = signed_by(before)
    for day in range(TODAY, TODAY + 13):
        assert verify(tag, ring, day) is TagState.GOOD
        with pytest.raises(TagsUnderWay, match="2026-12-03"):
            retire(ring, 1, day)
    day = TODAY + 13
    retired = retire(ring, 1, day)
    assert verify(tag, ring, day) is TagState.EXPIRED
    assert verify(tag, retired, day) is TagState.UNKNOWN_KEY
    assert retired.keys[0].state is KeyState.RETIRED
    assert parse(text_of(retired).encode(), TODAY)[1] == ()


def test_a_key_may_be_retired_at_once_by_who_knows_why():
    before = new_key(KeyRing(()), ["*"], TODAY - 50, 11)
    retired = retire_at_once(rotate(before, TODAY), 1)
    assert verify(signed_by(before), retired, TODAY) is TagState.UNKNOWN_KEY


def test_a_longer_lifetime_is_waited_for():
    ring = rotate(new_key(KeyRing(()), ["*"], TODAY - 50, 100), TODAY)
    with pytest.raises(TagsUnderWay):
        retire(ring, 1, TODAY + 101)
    assert retire(ring, 1, TODAY + 102)


def test_where_it_is_not_written_since_when_a_key_rests_it_is_not_retired():
    ring = import_key(
        new_key(KeyRing(()), ["*"], TODAY, 11), SECRET.encode(), ["*"], TODAY, 7, 0, KeyState.VERIFY
    )
    with pytest.raises(TagsUnderWay, match="verify_since"):
        retire(ring, 0, TODAY + 1000)
    assert retire_at_once(ring, 0).key(0, "example.com") is None


@pytest.mark.parametrize(("number", "said"), [(1, "key 1 signs"), (5, "no key 5")])
def test_what_cannot_be_retired(number, said):
    ring = new_key(KeyRing(()), ["*"], TODAY, 11)
    for way in (lambda: retire(ring, number, TODAY), lambda: retire_at_once(ring, number)):
        with pytest.raises(ValueError, match=said):
            way()


def test_two_keys_of_one_number_are_told_apart_by_domain():
    ring = new_key(new_key(KeyRing(()), ["a.example"], TODAY, 11), ["b.example"], TODAY, 11, number=1)
    ring = rotate(rotate(ring, TODAY, "a.example"), TODAY, "b.example")
    with pytest.raises(ValueError, match="several keys have the number 1"):
        retire_at_once(ring, 1)
    assert retire_at_once(ring, 1, "b.example").key(1, "a.example") is not None


def test_a_secret_shared_with_another_system():
    ring = import_key(KeyRing(()), SECRET.encode(), ["example.com"], TODAY, 7, 0)
    assert ring.signer("example.com").secret == SECRET.encode()
    with pytest.raises(ValueError, match="has this secret already"):
        import_key(ring, SECRET.encode(), ["example.org"], TODAY, 7, 1)
    with pytest.raises(ValueError, match="6 octets"):
        import_key(ring, b"secret", ["example.org"], TODAY, 7, 1)


def test_a_lifetime_lengthened_and_shortened_again_loses_no_bounce():
    ring = new_key(KeyRing(()), ["*"], TODAY, 11)
    longer = raise_lifetime(ring, 20)
    tag = signed_by(longer, lifetime=20)
    shorter = raise_lifetime(longer, 11)
    assert shorter.keys[0].max_lifetime == 20
    assert verify(tag, shorter, TODAY + 1) is TagState.GOOD
    assert rotate(shorter, TODAY + 1).signer("example.com").max_lifetime == 20


def test_a_key_that_no_longer_signs_learns_no_longer_lifetime():
    ring = raise_lifetime(rotate(new_key(KeyRing(()), ["*"], TODAY, 11), TODAY), 20)
    assert [key.max_lifetime for key in ring.keys] == [11, 20]


def test_no_secret_is_in_what_is_said():
    for ring in (ring_of(GOOD), rotate(ring_of(GOOD), TODAY)):
        assert SECRET not in repr(ring) + repr(ring.keys)


def test_what_a_killed_command_left_was_closed_to_its_own_user(tmp_path, monkeypatch):
    """It had the mode of the key file already, 0400: no later command could write it."""
    path = tmp_path / "keys.toml"
    modes = []
    replace_file = Path.replace

    def spied(self, target):
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", spied)
    write(path, new_key(KeyRing(()), ["*"], TODAY, 11))
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
