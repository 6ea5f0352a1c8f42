"""The public halves of DKIM keys as DNS and administrators have them."""

import base64
import os
from pathlib import Path

import pytest

from backstop.adapters.dkim_keys import Fault, KeyDirectory, PublicKey, parse, parse_file
from backstop.adapters.dkim_signature import Algorithm
from tests.harness.dkim_signer import RsaKey, rsa_key
from tests.harness.servers import need

ED25519 = b"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.fixture(scope="module")
def key() -> RsaKey:
    need("openssl")
    return rsa_key(2048)


@pytest.fixture(scope="module")
def parsed(key) -> PublicKey:
    parsed = parse(key.record)
    assert isinstance(parsed, PublicKey)
    return parsed


def base64_of(key: RsaKey) -> str:
    return base64.b64encode(key.der).decode()


class TestRecords:
    def test_rsa(self, parsed) -> None:
        assert parsed.algorithm is Algorithm.RSA
        assert parsed.modulus.bit_length() == 2048
        assert parsed.exponent == 65537

    @pytest.mark.parametrize(
        "form",
        [
            "p={}",
            "v=DKIM1;p={};",
            "v=DKIM1; k=rsa; p={}",
            " v = DKIM1 ;\t k = rsa ; n=a note; p = {} ; ",
            "v=DKIM1; h=sha1:sha256; s=email; p={}",
            "v=DKIM1; s=*:tlsrpt; t=; g=*; p={}",
        ],
    )
    def test_forms(self, form, key, parsed) -> None:
        assert parse(form.format(base64_of(key)).encode()) == parsed

    def test_base64_in_pieces(self, key, parsed) -> None:
        pieces = "\r\n ".join([base64_of(key)[at : at + 40] for at in range(0, 400, 40)])
        assert parse(f"v=DKIM1; p={pieces}".encode()) == parsed

    def test_the_bare_key_that_rfc_8017_has(self, key, parsed) -> None:
        bare = base64.b64encode(key.der[24:]).decode()
        assert parse(f"p={bare}".encode()) == parsed

    def test_ed25519(self) -> None:
        octets = base64.b64decode(ED25519)
        expected = PublicKey(Algorithm.ED25519, 0, 0, octets, is_strict=True, is_testing=True)
        assert parse(b"v=DKIM1; k=ed25519; t=y:s; p=" + ED25519) == expected

    @pytest.mark.parametrize(
        ("flags", "is_strict", "is_testing"),
        [
            ("", False, False),
            ("s", True, False),
            ("y", False, True),
            (" y : s ", True, True),
            ("x", False, False),
        ],
    )
    def test_flags(self, flags, is_strict, is_testing, key) -> None:
        parsed = parse(f"v=DKIM1; t={flags}; p={base64_of(key)}".encode())
        assert isinstance(parsed, PublicKey)
        assert (parsed.is_strict, parsed.is_testing) == (is_strict, is_testing)

    @pytest.mark.parametrize(
        ("record", "fault"),
        [
            ("", Fault.NO_RECORD),
            ("v=DKIM1", Fault.NO_RECORD),
            ("v=spf1 -all", Fault.NO_RECORD),
            ("p=A; p=A", Fault.NO_RECORD),
            ("\xff\xfe", Fault.NO_RECORD),
            ("x" * 20_000, Fault.NO_RECORD),
            ("v=DKIM1; p=", Fault.REVOKED),
            ("v=DKIM2; p=AAAA", Fault.VERSION),
            ("k=dsa; p=AAAA", Fault.KIND),
            ("h=sha1; p=AAAA", Fault.HASH),
            ("s=tlsrpt; p=AAAA", Fault.SERVICE),
            ("p=AAAA", Fault.MALFORMED),
            ("p=!!!!", Fault.MALFORMED),
            ("k=ed25519; p=AAAA", Fault.MALFORMED),
        ],
    )
    def test_faults(self, record, fault) -> None:
        assert parse(record.encode("latin-1")) is fault

    def test_sizes(self) -> None:
        need("openssl")
        assert parse(rsa_key(512).record) is Fault.SMALL
        assert isinstance(parse(rsa_key(1024).record), PublicKey)

    @pytest.mark.parametrize("bits", [1, 2048, 8192, 8193, 20_000])
    @pytest.mark.parametrize("exponent", [0, 1, 3, 4, 65537, 1 << 40, 1 << 4096])
    def test_numbers_that_would_prove_anything_or_take_for_ever(self, bits, exponent) -> None:
        der = sequence(integer((1 << bits) - 1) + integer(exponent))
        is_good = bits in (2048, 8192) and exponent in (3, 65537)
        parsed = parse(b"p=" + base64.b64encode(der))
        assert isinstance(parsed, PublicKey) is is_good

    def test_no_octet_of_a_key_makes_it_raise(self, key) -> None:
        for at in range(len(key.der)):
            for octet in (0, 1, 0x7F, 0x80, 0xFF):
                der = key.der[:at] + bytes([octet]) + key.der[at + 1 :]
                parse.__wrapped__(b"p=" + base64.b64encode(der))
            parse.__wrapped__(b"p=" + base64.b64encode(key.der[:at]))


def integer(number: int) -> bytes:
    octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + length(octets) + octets


def sequence(octets: bytes) -> bytes:
    return b"\x30" + length(octets) + octets


def length(octets: bytes) -> bytes:
    return b"\x84" + len(octets).to_bytes(4, "big")


class TestFiles:
    @pytest.mark.parametrize(
        "form",
        [
            # opendkim-genkey
            'mail._domainkey\tIN\tTXT\t( "v=DKIM1; h=sha256; k=rsa; "\n\t  "p={0}"\n\t  "{1}" ) ; --- DKIM\n',
            # rspamadm dkim_keygen
            'mail._domainkey IN TXT ( "v=DKIM1; k=rsa; "\n\t"p={0}"\n\t"{1}"\n) ;\n',
            # dig +short
            '"v=DKIM1; k=rsa; p={0}" "{1}"\n',
            # dig +short of old, with a second record
            '"v=spf1 -all"\n"v=DKIM1\\; k=rsa\\; p={0}" "{1}"\n',
            # a whole line of a zone
            'mail._domainkey.example.com. 3600 IN TXT "v=DKIM1; p={0}" "{1}"',
            # the text alone, also folded
            "v=DKIM1; k=rsa; p={0}{1}\n",
            "v=DKIM1; k=rsa;\n p={0}\n {1}\n\n",
        ],
    )
    def test_what_programs_write(self, form, key, parsed) -> None:
        text = base64_of(key)
        assert parse_file(form.format(text[:200], text[200:]).encode()) == parsed

    def test_pem(self, key, parsed) -> None:
        assert parse_file(key.public_pem) == parsed
        assert parse_file(b"# a comment\r\n" + key.public_pem.replace(b"\n", b"\r\n")) == parsed

    def test_pem_of_ed25519(self) -> None:
        der = bytes.fromhex("302a300506032b6570032100") + base64.b64decode(ED25519)
        pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"
        parsed = parse_file(pem)
        assert isinstance(parsed, PublicKey)
        assert parsed.octets == base64.b64decode(ED25519)

    @pytest.mark.parametrize(
        ("octets", "fault"),
        [
            (b"", Fault.NO_RECORD),
            (b'"', Fault.NO_RECORD),
            (b'"v=DKIM1; p=AAAA', Fault.NO_RECORD),
            (b'( "v=DKIM1; p="', Fault.NO_RECORD),
            (b'x IN TXT "v=DKIM1; p="\n', Fault.REVOKED),
            (b'"\\', Fault.NO_RECORD),
            (b'"\xff\xfe\x00"', Fault.NO_RECORD),
            (b"-----BEGIN PUBLIC KEY-----\n", Fault.MALFORMED),
            (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", Fault.MALFORMED),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", Fault.MALFORMED),
        ],
    )
    def test_faults(self, octets, fault) -> None:
        assert parse_file(octets) is fault


class TestDirectory:
    @pytest.mark.parametrize(
        "name",
        [
            "s1._domainkey.example.com",
            "S1._domainkey.Example.COM.txt",
            "s1._domainkey.example.com.pem",
            "example.com/s1",
            "example.com/s1.txt",
            "example.com/s1.pem",
            "example.com/s1._domainkey.example.com.txt",
            "example.com/s1._domainkey",
        ],
    )
    def test_names(self, tmp_path, name, key, parsed) -> None:
        put(tmp_path / name, key.record)
        assert KeyDirectory(tmp_path, pytest.fail).key("s1", "example.com", 0) == parsed

    def test_a_selector_may_have_dots_and_endings_of_its_own(self, tmp_path, key, parsed) -> None:
        put(tmp_path / "example.com" / "2026.key.txt", key.record)
        put(tmp_path / "a.b._domainkey.example.com", key.record)
        keys = KeyDirectory(tmp_path, pytest.fail)
        assert keys.key("2026.key", "example.com", 0) == parsed
        assert keys.key("a.b", "example.com", 0) == parsed
        assert keys.key("a.b", "b.example.com", 0) is None

    def test_a_private_key_is_complained_of_and_not_used(self, tmp_path, key) -> None:
        said: list[str] = []
        put(tmp_path / "example.com" / "s1.txt", key.pem)
        put(tmp_path / "example.com" / "s2.private", key.record + b"\n" + key.pem)
        keys = KeyDirectory(tmp_path, said.append)
        assert keys.key("s1", "example.com", 0) is None
        assert keys.key("s2.private", "example.com", 0) is None
        assert said == [
            f"DKIM keys {tmp_path}: example.com/{name}: is a private key, which has no place here; "
            "it is not used. Move it away"
            for name in ("s1.txt", "s2.private")
        ]

    def test_every_file_of_no_use_is_named_once(self, tmp_path) -> None:
        said: list[str] = []
        need("openssl")
        put(tmp_path / "notes.txt", b"hello")
        put(tmp_path / "README", b"hello")
        put(tmp_path / ".hidden", b"hello")
        put(tmp_path / "s1._domainkey.example.com~", b"hello")
        put(tmp_path / "s1._domainkey.example.com", b"hello")
        put(tmp_path / "s2._domainkey.example.com", rsa_key(512).record)
        put(tmp_path / "s3._domainkey.example.com", b"v=DKIM1; p=")
        put(tmp_path / "s4._domainkey.example.com", b"x" * 20_000)
        (tmp_path / "s5._domainkey.example.com").symlink_to("nowhere")
        os.mkfifo(tmp_path / "s6._domainkey.example.com")
        put(tmp_path / "deep" / "deeper" / "s7._domainkey.example.com", b"hello")
        keys = KeyDirectory(tmp_path, said.append)
        for second in range(5):
            assert keys.key("s1", "example.com", second) is None
            assert keys.key("s3", "example.com", second) is Fault.REVOKED
        assert said == [
            f"DKIM keys {tmp_path}: {text}; it is not used"
            for text in (
                "notes.txt: is named neither SELECTOR._domainkey.DOMAIN nor DOMAIN/SELECTOR.txt",
                "s1._domainkey.example.com: is no DKIM key record",
                "s2._domainkey.example.com: is too small: RSA needs 1024 bits",
                "s4._domainkey.example.com: is larger than 16384 octets",
            )
        ]

    def test_a_file_that_is_damaged_keeps_its_key_and_one_that_is_gone_does_not(
        self, tmp_path, key, parsed
    ) -> None:
        said: list[str] = []
        put(tmp_path / "example.com" / "s1.txt", key.record)
        keys = KeyDirectory(tmp_path, said.append)
        assert keys.key("s1", "example.com", 0) == parsed
        put(tmp_path / "example.com" / "s1.txt", key.record[:100])
        assert keys.key("s1", "example.com", 0.5) == parsed
        assert not said
        assert keys.key("s1", "example.com", 1.5) == parsed
        assert len(said) == 1
        (tmp_path / "example.com" / "s1.txt").unlink()
        assert keys.key("s1", "example.com", 3) is None

    def test_a_directory_that_vanishes_holds_nothing(self, tmp_path, key, parsed) -> None:
        put(tmp_path / "d" / "s1._domainkey.example.com", key.record)
        keys = KeyDirectory(tmp_path / "d", pytest.fail)
        assert keys.key("s1", "example.com", 0) == parsed
        (tmp_path / "d").rename(tmp_path / "elsewhere")
        assert keys.key("s1", "example.com", 2) is None

    def test_a_path_that_is_no_directory_is_complained_of(self, tmp_path) -> None:
        said: list[str] = []
        put(tmp_path / "file", b"")
        assert KeyDirectory(tmp_path / "file", said.append).key("s1", "example.com", 0) is None
        assert said == [f"DKIM keys {tmp_path / 'file'}: Not a directory; the last 0 keys are kept"]

    def test_a_thousand_files_are_read(self, tmp_path, key) -> None:
        said: list[str] = []
        for number in range(1001):
            put(tmp_path / f"s{number:04}._domainkey.example.com", key.record)
        keys = KeyDirectory(tmp_path, said.append)
        assert keys.key("s0999", "example.com", 0)
        assert keys.key("s1000", "example.com", 0) is None
        assert said == [f"DKIM keys {tmp_path}: more than 1000 files; the rest is not read"]


def put(path: Path, octets: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
