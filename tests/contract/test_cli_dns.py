"""`backstop dns` on zones of every kind, from a real name server, and from one that cannot say."""

import json

import dns.rcode
import pytest

from backstop.adapters import dkim_keys
from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.cli import main
from backstop.cli.published import dkim
from tests.harness.dkim_signer import rsa_key
from tests.harness.name_server import PROGRAM, NameServer, txt
from tests.harness.odd_name_server import Odd, OddNameServer, answer
from tests.harness.servers import need

REJECT = '_dmarc TXT "v=DMARC1; p=reject; rua=mailto:dmarc@{}"\n'
PASSING = "@ MX 10 mail\nmail A 192.0.2.1\nmail AAAA 2001:db8::1\n"


def zone(spf, dmarc=REJECT, more=""):
    """Names are relative; `{}` in `dmarc` is the domain."""
    return PASSING + f"@ TXT {txt(spf)}\n" + dmarc + more


MANY = "v=spf1 " + " ".join(f"a:a{number}.many.example" for number in range(11)) + " -all"
DEEP = {
    f"i{level}.deep.example": f'@ TXT "v=spf1 include:i{level + 1}.deep.example a:h.deep.example -all"\n'
    for level in range(60)
}

ZONES = {
    "good.example": zone("v=spf1 mx ip4:198.51.100.0/24 include:other.example -all")
    + f"s1._domainkey TXT {txt(rsa_key(2048).record)}\n"
    + f"small._domainkey TXT {txt(rsa_key(1024).record)}\n"
    + 'gone._domainkey TXT "v=DKIM1; p="\n'
    + f"test._domainkey TXT {txt(rsa_key(2048).record + b'; t=y')}\n"
    + 'broken._domainkey TXT "v=DKIM1; p=notakey"\n'
    + 'twice._domainkey TXT "v=DKIM1; p="\ntwice._domainkey TXT "v=DKIM1; k=rsa; p="\n',
    "sub.good.example": PASSING + '@ TXT "v=spf1 mx -all"\n',
    "other.example": '@ TXT "v=spf1 ip4:203.0.113.7 ?all"\n',
    "none.example": PASSING,
    "silent.example": "",
    "two.example": zone("v=spf1 mx -all", more='@ TXT "v=spf1 -all"\n'),
    "many.example": zone(MANY, more="".join(f"a{n} A 192.0.2.{n}\na{n} AAAA ::{n + 9}\n" for n in range(11))),
    "circle.example": zone("v=spf1 include:back.example -all"),
    "back.example": '@ TXT "v=spf1 include:circle.example -all"\n',
    "soft.example": zone("v=spf1 mx ~all", '_dmarc TXT "v=DMARC1; p=none; rua=mailto:d@soft.example"\n'),
    "neutral.example": zone("v=spf1 mx ?all"),
    "open.example": zone("v=spf1 +all"),
    "noall.example": zone("v=spf1 mx"),
    "opens.example": zone("v=spf1 include:open.example -all"),
    "wide.example": zone("v=spf1 ip4:192.0.0.0/8 ip4:10.0.0.0/12 ip6:2000::/3 mx/0 -all"),
    "damaged.example": zone("v=spf1 ip4:192.0.2.300 ip6:192.0.2.1 foo include: a/99 all:x -all exp=a exp=b"),
    "mask.example": zone(
        "v=spf1 ip4:192.0.2.0/255.255.255.0 ip6:fe80::1%eth0 a:192.0.2.7 mx/024 include:good.123 -all"
    ),
    "equals.example": zone("v=spf1 ip4=192.0.2.7 mx other=word -all"),
    "np.example": zone(
        "v=spf1 mx -all", '_dmarc TXT "v=DMARC1; p=reject; sp=none; np=reject; rua=mailto:d@np.example"\n'
    ),
    "semicolon.example": zone(
        "v=spf1 mx -all",
        '_dmarc TXT "v=DMARC1; p=reject; rua=mailto:a@semicolon.example;mailto:b@semicolon.example; ;"\n',
    ),
    "dead.example": zone("v=spf1 mx -all a:mail.dead.example redirect=other.example"),
    "empty.example": zone(
        "v=spf1 include:none.example a:x.empty.example a:y.empty.example mx:z.empty.example -all"
    ),
    "redirect.example": zone("v=spf1 redirect=good.example"),
    "macro.example": zone("v=spf1 exists:%{i}.list.example ptr mx -all"),
    "near.example": PASSING + '@ TXT "v=spf1;mx -all"\n_dmarc TXT "v=dmarc1; p=reject"\n',
    "reports.example": zone(
        "v=spf1 mx -all", '_dmarc TXT "v=DMARC1; p=reject; rua=mailto:a@taker.example,b@c"\n'
    ),
    "stranger.example": zone(
        "v=spf1 mx -all", '_dmarc TXT "v=DMARC1; p=reject; rua=mailto:a@none.example"\n'
    ),
    "taker.example": 'reports.example._report._dmarc TXT "v=DMARC1"\n',
    "dmarc2.example": zone(
        "v=spf1 mx -all", '_dmarc TXT "v=DMARC1; p=none"\n_dmarc TXT "v=DMARC1; p=reject"\n'
    ),
    "dmarcbad.example": zone("v=spf1 mx -all", '_dmarc TXT "v=DMARC1; p=rejct"\n'),
    "dmarctags.example": zone(
        "v=spf1 mx -all", '_dmarc TXT "v=DMARC1; p=reject; sp=none; pct=50; adkim=x; aspf=s"\n'
    ),
    "escape.example": zone(b"v=spf1 a:\x1b[2J\xe2\x80\xae\xff.example mx ~all"),
    "long.example": zone("v=spf1 " + "ip4:192.0.2.1 " * 600 + "-all"),
    "deep.example": zone("v=spf1 include:i0.deep.example -all", more="h A 192.0.2.1\nh AAAA ::1\n"),
} | DEEP
ZONES = {name: lines.replace("{}", name) for name, lines in ZONES.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    need(PROGRAM)
    try:
        PublicSuffixes().load()
    except LookupError as error:
        pytest.skip(str(error))
    with NameServer(tmp_path_factory.mktemp("nsd"), ZONES) as server:
        yield server


@pytest.fixture
def ask(server, capsys):
    def ask(*words, status=0, resolver=server.address):
        ended = main(["dns", *words, "--resolver", resolver])
        said, complained = capsys.readouterr()
        assert complained == ""
        assert ended == status, said
        assert all(line.isprintable() for line in said.splitlines())
        return said

    return ask


def levels(said, level):
    return [line for line in said.splitlines() if line.startswith(f"{level:<12}  ")]


def test_a_good_domain(ask):
    said = ask("good.example", "--selector", "s1", "--client", "198.51.100.9")
    assert not levels(said, "wrong")
    assert "include:other.example" in said
    assert "lookups in the worst case: 2 of 10" in said
    assert "fine          SPF: who is not named may not send (-all)" in said
    assert "SPF for 198.51.100.9: passes" in said
    assert "DKIM s1: is good: RSA, 2048 bits" in said
    assert "DMARC: asks for reject" in said
    assert "IN TXT" not in said


def test_a_subdomain_is_spoken_for_by_the_domain_above(ask):
    said = ask("sub.good.example")
    assert "asks for reject, by the record of good.example" in said
    assert "IN TXT" not in said


def test_a_domain_with_nothing_gets_records_ready_to_paste(ask):
    said = ask("none.example", status=1)
    assert len(levels(said, "wrong")) == 2
    assert 'none.example. IN TXT "v=spf1 mx -all"' in said
    assert '_dmarc.none.example. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@none.example"' in said
    said = ask("none.example", "--client", "192.0.2.9", status=1)
    assert 'none.example. IN TXT "v=spf1 mx ip4:192.0.2.9 -all"' in said
    assert 'silent.example. IN TXT "v=spf1 -all"' in ask("silent.example", status=1)


@pytest.mark.parametrize(
    ("domain", "status", "text"),
    [
        ("two.example", 1, "there are 2 records, and one may be: a check that comes to it ends in permerror"),
        ("many.example", 1, "takes 11 lookups, and 10 may be"),
        ("circle.example", 1, "`include:circle.example` in back.example leads back to itself"),
        ("soft.example", 0, "only suspected (~all)"),
        ("soft.example", 0, 'soft.example. IN TXT "v=spf1 mx -all"'),
        ("soft.example", 0, "asks for nothing yet (p=none)"),
        ("soft.example", 0, '"v=DMARC1; p=quarantine; rua=mailto:d@soft.example"'),
        ("neutral.example", 1, "nothing is said of who is not named (?all)"),
        ("open.example", 1, "everybody may send (+all)"),
        ("open.example", 1, 'open.example. IN TXT "v=spf1 mx -all"'),
        ("noall.example", 1, "there is no `all`"),
        ("noall.example", 1, 'noall.example. IN TXT "v=spf1 mx -all"'),
        ("opens.example", 1, "`+all` in open.example lets everybody send"),
        ("wide.example", 1, "`ip4:192.0.0.0/8` lets one in 256 of all addresses of IPv4 send"),
        ("wide.example", 1, "`mx/0` lets every address of IPv4 send"),
        ("wide.example", 1, "`ip4:10.0.0.0/12` is a network that no mail comes from outside"),
        ("damaged.example", 1, "`ip4:192.0.2.300` names no network"),
        ("damaged.example", 1, "`ip6:192.0.2.1` names an IPv4 network"),
        ("damaged.example", 1, "`foo` is no term of SPF"),
        ("damaged.example", 1, "`include:` names no domain"),
        ("damaged.example", 1, "`a/99` has a prefix that is too long"),
        ("damaged.example", 1, "`all:x` takes nothing behind it"),
        ("damaged.example", 1, "`exp=` stands there twice"),
        ("mask.example", 1, "`ip4:192.0.2.0/255.255.255.0` names no network"),
        ("mask.example", 1, "`ip6:fe80::1%eth0` names no network"),
        ("mask.example", 1, "`a:192.0.2.7` names no domain"),
        ("mask.example", 1, "`mx/024` has a prefix that is none"),
        ("mask.example", 1, "`include:good.123` names no domain"),
        ("equals.example", 1, "`ip4=192.0.2.7` is passed over"),
        ("semicolon.example", 1, "`mailto:b@semicolon.example` is no tag"),
        ("dead.example", 0, "`a:mail.dead.example` is never reached"),
        ("dead.example", 0, "`redirect=other.example` is never reached"),
        ("empty.example", 1, "`include:none.example` leads to no record of SPF"),
        ("empty.example", 1, "4 lookups find nothing, and 2 may be"),
        ("redirect.example", 0, "who is not named may not send (-all)"),
        ("macro.example", 0, "depends on the message, so it was not asked"),
        ("macro.example", 0, "large receivers pass over it"),
        ("near.example", 1, "`v=spf1;mx -all` is no record of SPF"),
        ("near.example", 1, "`v=dmarc1; p=reject` is no record of DMARC"),
        ("reports.example", 1, "holds what is no address for reports"),
        ("stranger.example", 1, "reports go to none.example, which does not say that it takes them"),
        ("dmarc2.example", 1, "_dmarc.dmarc2.example has 2 records, so none counts"),
        ("dmarcbad.example", 1, "the record of _dmarc.dmarcbad.example is damaged"),
        ("dmarctags.example", 1, "`adkim=x` is wrong"),
        ("dmarctags.example", 1, "of 50 % of the mail only"),
        ("dmarctags.example", 1, "for subdomains it asks for none only"),
        ("dmarctags.example", 1, "for subdomains that do not exist it asks for none only"),
        ("dmarctags.example", 1, "alignment of SPF is strict"),
        ("dmarctags.example", 1, "nobody is told who fails"),
        ("escape.example", 1, r"a:\x1b[2J\xe2\x80\xae\xff.example` names no domain"),
        ("escape.example", 1, r"v=spf1 a:\x1b[2J\u202e\xff.example mx ~all"),
        ("long.example", 75, "has more than 500 terms, the rest was not read"),
        ("long.example", 75, "octets, and over 450 may not fit a datagram"),
        ("deep.example", 1, "takes 41 or more lookups"),
    ],
)
def test_what_is_wrong(ask, domain, status, text):
    assert text in ask(domain, status=status)


def test_a_report_to_a_stranger_who_takes_it_is_no_fault(ask):
    assert "reports go to" not in ask("reports.example", status=1)


def test_a_modifier_that_nobody_knows_is_no_fault(ask):
    assert "other=word` is" not in ask("equals.example", status=1)


def test_subdomains_that_do_not_exist_have_a_policy_of_their_own(ask):
    said = ask("np.example")
    assert "for subdomains it asks for none only" in said
    assert "that do not exist" not in said


def test_a_client_that_may_not_send(ask):
    said = ask("good.example", "--client", "192.0.2.99", status=1)
    assert "SPF for 192.0.2.99: does not pass: fail" in said
    assert "add `ip4:192.0.2.99` before `all`" in said


@pytest.mark.parametrize(
    ("selector", "level", "text"),
    [
        ("small", "note", "is good with RSA, 1024 bits"),
        ("gone", "note", "is revoked"),
        ("test", "note", "marked as a test"),
        ("broken", "wrong", "is damaged"),
        ("twice", "wrong", "has 2 records"),
        ("nowhere", "wrong", "is not in DNS"),
    ],
)
def test_a_selector(ask, selector, level, text):
    said = ask("good.example", "--selector", selector.upper(), status=int(level == "wrong"))
    assert any(text in line for line in levels(said, level))


class TestConfigured:
    """With a configuration: its resolver, and the keys in dkim_keys."""

    @pytest.fixture
    def site(self, tmp_path, server, capsys):
        keys = tmp_path / "keys.toml"
        keys.write_text(
            '[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\ndomains = ["*"]\n'
            'created = 2026-01-01\nmax_lifetime = "11d"\n'
        )
        keys.chmod(0o400)
        config = tmp_path / "backstop.toml"
        config.write_text(
            f'keys = "{keys}"\ndkim_keys = "{tmp_path}/dkim.d"\nresolver = ["{server.address}"]\n'
            'domains = ["example.com"]\n[defaults]\ntag_form = "subaddress"\n'
        )

        def ask(*words, status=0):
            ended = main(["--config", str(config), "dns", *words])
            said, complained = capsys.readouterr()
            assert (ended, complained) == (status, "")
            return said

        (tmp_path / "dkim.d").mkdir()
        ask.files = tmp_path / "dkim.d"
        return ask

    def test_the_key_of_the_file_is_the_one_in_dns(self, site):
        (site.files / "s1._domainkey.good.example.pem").write_bytes(rsa_key(2048).public_pem)
        assert "is good: RSA, 2048 bits, the same as in the file here" in site("good.example")

    def test_another_key_and_one_that_is_not_published(self, site):
        other = rsa_key(2048, "other")
        (site.files / "s1._domainkey.good.example.pem").write_bytes(other.public_pem)
        said = site("good.example", status=1)
        assert "the key in DNS is not the one in the file" in said
        record = other.record.decode()
        assert f's1._domainkey.good.example. IN TXT ( "{record[:255]}" "{record[255:]}" )' in said

    def test_a_key_that_is_in_no_zone(self, site):
        (site.files / "mail._domainkey.none.example").write_bytes(rsa_key(1024).record)
        said = site("none.example", status=1)
        assert "none of these keys is good in DNS" in said
        assert f'mail._domainkey.none.example. IN TXT "{rsa_key(1024).record.decode()}"' in said


def test_json(ask):
    found = json.loads(ask("soft.example", "--selector", "x", "--json", status=1))
    assert found["wrong"] == 1
    assert found["spf"]["record"] == "v=spf1 mx ~all"
    assert (found["spf"]["lookups"], found["spf"]["others"]) == (1, "softfail")
    assert found["dkim"] == [{"selector": "x", "published": None, "file": None}]
    assert found["dmarc"]["asks_for"] == "none"
    assert {record["name"] for record in found["records"]} == {"soft.example", "_dmarc.soft.example"}
    assert {"level", "subject", "text", "cure"} == set(found["findings"][0])


def test_dns_that_cannot_say(ask):
    failing = Odd(udp=lambda query: [answer(query, rcode=dns.rcode.SERVFAIL)])
    with OddNameServer({}, otherwise=failing) as odd:
        said = ask("good.example", "--selector", "s1", resolver=odd.address, status=75)
    assert len(levels(said, "not examined")) == 3
    assert "IN TXT" not in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a@good.example"], "is an address"),
        (["[192.0.2.1]"], "is an address"),
        (["a b"], "is no domain"),
        (["good.example", "--client", "me"], "is no IP address"),
        (["good.example", "--selector", "a b"], "is no selector"),
        (["good.example", "--resolver", "ns.example"], "is no address of a name server"),
        ([], "required"),
    ],
)
def test_a_wrong_command_line(capsys, words, text):
    assert main(["dns", *words]) == 64
    assert text in capsys.readouterr().err


def test_a_configuration_that_is_named_must_be_good(tmp_path, capsys):
    path = tmp_path / "backstop.toml"
    assert main(["--config", str(path), "dns", "good.example"]) == 78
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    "record", [rsa_key(1024).record, rsa_key(2048).record, b"v=DKIM1; k=ed25519; p=" + b"A" * 43 + b"="]
)
def test_the_record_of_a_key_is_that_key(record):
    assert dkim.record(dkim_keys.parse(record)) == record
