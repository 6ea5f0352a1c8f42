"""What `setup postfix` writes, on a real Postfix without a milter: who exists, what arrives, the way back."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.harness.next_hop import NextHop
from tests.harness.postfix import PrivatePostfix, Site, scratch, why_not
from tests.harness.servers import need, run_backstop
from tests.harness.smtp import deliver

pytestmark = pytest.mark.e2e

LETTER = b"Subject: a letter\r\n\r\nHello.\r\n"
SITE = Site(users=("alice", "bob", "o-hara"), virtual_users=("vic", "v-v"))
DOMAINS = ("our.test", "virt.test", "relay.test", "alias.test")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A Postfix, the next hop, and the configuration of Backstop that `setup` reads."""

    postfix: PrivatePostfix
    next_hop: NextHop
    config: Path
    form: str
    delimiter: str

    def setup(self, *words: str) -> CompletedProcess[str]:
        return run_backstop(
            "setup",
            "postfix",
            *("--config", str(self.config)),
            *("--postfix-config", str(self.postfix.etc)),
            *words,
        )

    def tagged(self, address: str) -> str:
        local, _, domain = address.rpartition("@")
        return f"prvs=1234abcdef={address}" if self.form == "prvs" else f"{local}+prvs=1234abcdef@{domain}"

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.postfix.etc.iterdir() if path.is_file()}


def _make(folder: Path, next_hop: NextHop, form: str, delimiter: str, *main: str, chroot: bool) -> Fitted:
    postfix = PrivatePostfix(
        folder,
        next_hop=next_hop.port,
        site=SITE,
        main=main,
        originating="",
        recipient_delimiter=delimiter,
        chroot=chroot,
    )
    config = folder / "backstop.toml"
    after = "+" if form == "subaddress" else delimiter
    config.write_text(
        f'socket = "unix:{postfix.milter_socket}"\n'
        f'keys = "{folder}/keys/keys.toml"\n'
        f"domains = [{', '.join(repr(domain) for domain in DOMAINS)}]\n"
        f'[defaults]\nrecipient_delimiter = "{after}"\n' + (f'tag_form = "{form}"\n' if form else "")
    )
    (folder / "keys").mkdir(mode=0o750)
    key = run_backstop("key", "new", "--config", str(config))
    assert key.returncode in {os.EX_OK, os.EX_CONFIG}, key.stderr
    return Fitted(postfix, next_hop, config, form, delimiter)


@pytest.fixture(
    scope="module",
    params=[
        ("subaddress", "+", False),
        ("subaddress", "", True),
        ("prvs", "+", False),
        ("prvs", "-", True),
        ("prvs", "", False),
    ],
    ids=lambda each: f"{each[0]}-with-{each[1] or 'nothing'}{'-chroot' if each[2] else ''}",
)
def running(request: pytest.FixtureRequest) -> Iterator[Fitted]:
    """A Postfix that `setup --write` has fitted; the milter lines are out, as there is none."""
    _need_postfix()
    form, delimiter, chroot = request.param
    folder = scratch()
    try:
        with NextHop() as next_hop:
            fitted = _make(folder, next_hop, form, delimiter, chroot=chroot)
            done = fitted.setup("--write")
            assert done.returncode == os.EX_OK, done.stderr
            fitted.postfix.edit("smtpd_milters=", "non_smtpd_milters=")
            with fitted.postfix:
                yield fitted
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def fitted(running: Fitted) -> Fitted:
    """The same, without mail."""
    running.postfix.forget()
    running.next_hop.forget()
    return running


@pytest.fixture(params=["subaddress", "prvs"])
def untouched(request: pytest.FixtureRequest) -> Iterator[Fitted]:
    """A Postfix that does not run, as it was before `setup`."""
    yield from _untouched(request.param, "+")


@pytest.fixture
def formless() -> Iterator[Fitted]:
    """The same, where the configuration of Backstop has no tag_form yet."""
    yield from _untouched("", "")


def _untouched(form: str, delimiter: str) -> Iterator[Fitted]:
    _need_postfix()
    folder = scratch()
    try:
        with NextHop() as next_hop:
            yield _make(folder, next_hop, form, delimiter, chroot=False)
    finally:
        shutil.rmtree(folder)


def _need_postfix() -> None:
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)


class TestMail:
    @pytest.mark.parametrize(
        ("address", "mailbox"),
        [
            ("alice@our.test", "alice@our.test"),
            ("Alice@OUR.test", "alice@our.test"),
            ("games@our.test", "games@our.test"),
            ("o-hara@our.test", "o-hara@our.test"),
            ("staff@our.test", "alice@our.test"),
            ("info@our.test", "alice@our.test"),
            ("sales@alias.test", "bob@our.test"),
            ("vic@virt.test", "vic@virt.test"),
            ("v-v@virt.test", "v-v@virt.test"),
        ],
    )
    def test_a_tagged_address_of_ours_is_delivered_without_the_tag(
        self, fitted: Fitted, address: str, mailbox: str
    ) -> None:
        with fitted.postfix.client() as client:
            for reverse_path in ("", "stranger@else.test"):
                sent = deliver(client, reverse_path, (fitted.tagged(address),), LETTER)
                assert sent.accepted, sent
        letters = fitted.postfix.wait_for_mail(mailbox, 2)
        for letter in letters:
            assert "prvs=" not in letter["Delivered-To"]
            assert letter["X-Original-To"].lower() == fitted.tagged(address).lower()

    @pytest.mark.parametrize(
        "address", ["alice@our.test", "vic@virt.test", "rita@relay.test", "info@our.test"]
    )
    def test_with_an_extension_too(self, fitted: Fitted, address: str) -> None:
        delimiter = "+" if fitted.form == "subaddress" else fitted.delimiter
        extended = address.replace("@", f"{delimiter or '+'}news@")
        with fitted.postfix.client() as client:
            sent = deliver(client, "", (fitted.tagged(extended),), LETTER)
        # Without a delimiter there are no extensions, tagged or not.
        assert sent.accepted is bool(delimiter), sent
        assert sent.recipients[0].code == (250 if delimiter else 550)
        fitted.postfix.wait_until_idle()

    @pytest.mark.parametrize(
        ("address", "wire"),
        [
            ("rita@relay.test", "rita@relay.test"),
            ("away@our.test", "friend@else.test"),
            ("moved@alias.test", "friend@else.test"),
        ],
    )
    def test_no_tag_of_ours_travels_on(self, fitted: Fitted, address: str, wire: str) -> None:
        with fitted.postfix.client() as client:
            assert deliver(client, "", (fitted.tagged(address),), LETTER).accepted
        (letter,) = fitted.next_hop.wait_for_letters(1)
        assert letter.recipients == (wire,)

    @pytest.mark.parametrize("domain", DOMAINS)
    @pytest.mark.parametrize("reverse_path", ["", "stranger@else.test"])
    def test_a_tagged_address_of_nobody_is_refused(
        self, fitted: Fitted, domain: str, reverse_path: str
    ) -> None:
        with fitted.postfix.client() as client:
            for address in (
                f"ghost@{domain}",
                fitted.tagged(f"ghost@{domain}"),
                f"prvs=1234abcdef=@{domain}",
            ):
                sent = deliver(client, reverse_path, (address,), LETTER)
                assert sent.recipients[0].code == 550, (address, sent)
                assert sent.recipients[0].text.startswith("5.1.1"), sent
        assert not fitted.postfix.queue()

    def test_a_strangers_tag_is_left_alone(self, fitted: Fitted) -> None:
        theirs = ("prvs=1234abcdef=r@else.test", "r+prvs=1234abcdef@else.test", "SRS0=ab=cd=x=y@else.test")
        with fitted.postfix.own_user() as client:
            for address in theirs:
                assert deliver(client, address, (address,), LETTER).accepted
        letters = fitted.next_hop.wait_for_letters(len(theirs))
        assert sorted(letter.recipients[0] for letter in letters) == sorted(theirs)
        assert sorted(letter.reverse_path for letter in letters) == sorted(theirs)

    def test_a_tagged_recipient_elsewhere_is_no_relaying(self, fitted: Fitted) -> None:
        with fitted.postfix.client() as client:
            sent = deliver(client, "", (fitted.tagged("someone@else.test"),), LETTER)
        assert sent.recipients[0].code == 554

    @pytest.mark.parametrize(
        "sender", ["alice@our.test", "games@our.test", "sales@alias.test", "vic@virt.test"]
    )
    def test_postfixs_own_report_comes_home(self, fitted: Fitted, sender: str) -> None:
        """As a tagged sender's letter comes back: the report passes no milter, only cleanup."""
        fitted.next_hop.answer("RCPT", "*", "550 5.1.1 no such user")
        with fitted.postfix.own_user() as client:
            assert deliver(client, fitted.tagged(sender), ("gone@else.test",), LETTER).accepted
        mailbox = "bob@our.test" if sender == "sales@alias.test" else sender
        (report,) = fitted.postfix.wait_for_mail(mailbox)
        assert report["Subject"] == "Undelivered Mail Returned to Sender"

    def test_the_log_has_no_complaint(self, fitted: Fitted) -> None:
        complaints = [
            line for line in fitted.postfix.log().splitlines() if "warning:" in line or "fatal:" in line
        ]
        assert complaints == []


class TestCommand:
    def test_the_diff_changes_nothing_and_the_second_write_finds_nothing(self, untouched: Fitted) -> None:
        before = untouched.files()
        shown = untouched.setup()
        assert shown.returncode == os.EX_OK
        assert "+++ " in shown.stdout
        assert untouched.files() == before
        assert untouched.setup("--write").returncode == os.EX_OK
        written = untouched.files()
        again = untouched.setup("--write")
        assert (again.returncode, again.stdout) == (os.EX_OK, "")
        assert "nothing to do" in again.stderr
        assert untouched.files() == written

    def test_undo_restores_every_octet(self, untouched: Fitted) -> None:
        before = untouched.files()
        assert untouched.setup("--write").returncode == os.EX_OK
        assert untouched.files() != before
        done = untouched.setup("--undo")
        assert done.returncode == os.EX_OK, done.stderr
        assert untouched.files() == before
        assert untouched.setup("--undo").returncode == os.EX_NOINPUT

    def test_undo_refuses_where_a_file_was_changed_since(self, untouched: Fitted) -> None:
        before = untouched.files()
        untouched.setup("--write")
        with (untouched.postfix.etc / "master.cf").open("a") as file:
            file.write("# mine\n")
        done = untouched.setup("--undo")
        assert done.returncode == os.EX_DATAERR
        assert "master.cf" in done.stderr
        assert "main.cf" not in done.stderr
        assert untouched.setup("--undo", "--force").returncode == os.EX_OK
        assert untouched.files() == before

    def test_own_users_are_marked_and_other_services_reported(self, untouched: Fitted) -> None:
        done = untouched.setup("--write")
        services = untouched.postfix.command("postconf", "-P")
        submission = (
            f"127.0.0.1:{untouched.postfix.ports.submission}/inet/milter_macro_daemon_name = ORIGINATING"
        )
        assert submission in services
        assert f"127.0.0.1:{untouched.postfix.ports.unfiltered}/inet calls no milter" in done.stderr

    def test_nothing_is_written_into_a_broken_configuration(self, untouched: Fitted) -> None:
        with (untouched.postfix.etc / "master.cf").open("a") as file:
            file.write("what is this\n")
        before = untouched.files()
        done = untouched.setup("--write")
        assert done.returncode != os.EX_OK
        assert untouched.files() == before

    def test_the_form_is_chosen_where_none_is_written(self, formless: Fitted) -> None:
        done = formless.setup()
        assert done.returncode == os.EX_OK, done.stderr
        assert 'tag_form = "subaddress"' in done.stderr
        assert "+recipient_delimiter = +" in done.stdout

    def test_prvs_beside_maps_by_sender_is_refused(self, untouched: Fitted) -> None:
        untouched.postfix.edit("sender_dependent_relayhost_maps=static:[127.0.0.1]")
        done = untouched.setup("--write", "--form", "prvs")
        assert done.returncode == os.EX_CONFIG
        assert "sender_dependent_relayhost_maps" in done.stderr
        assert untouched.setup("--form", "subaddress").returncode == os.EX_OK

    def test_a_domain_in_a_table_is_found(self, untouched: Fitted) -> None:
        """virtual_alias_domains = $virtual_alias_maps is the default: the domain is a key of the table."""
        untouched.postfix.edit("virtual_alias_domains=$virtual_alias_maps")
        (untouched.postfix.etc / "virtual").write_text("alias.test x\nsales@alias.test bob@our.test\n")
        untouched.postfix.command("postmap", f"hash:{untouched.postfix.etc}/virtual")
        done = untouched.setup("--write")
        assert done.returncode == os.EX_OK
        assert "alias.test" not in done.stderr
        untouched.postfix.edit("smtpd_milters=", "non_smtpd_milters=")
        with untouched.postfix, untouched.postfix.client() as client:
            assert deliver(client, "", (untouched.tagged("sales@alias.test"),), LETTER).accepted
            refused = deliver(client, "", (untouched.tagged("ghost@alias.test"),), LETTER)
            assert refused.recipients[0].code == 550

    def test_the_next_hop_is_asked_about_the_address_without_the_tag(self, untouched: Fitted) -> None:
        """Where Postfix verifies recipients (reject_unverified_recipient), its probes pass cleanup too."""
        untouched.next_hop.answer("RCPT", "ghost*", "550 5.1.1 no such user")
        untouched.postfix.edit(
            "relay_recipient_maps=",
            "smtpd_recipient_restrictions=permit_mynetworks,reject_unauth_destination,reject_unverified_recipient",
            "unverified_recipient_reject_code=550",
            "address_verify_poll_count=10",
        )
        assert untouched.setup("--write").returncode == os.EX_OK
        untouched.postfix.edit("smtpd_milters=", "non_smtpd_milters=")
        with untouched.postfix, untouched.postfix.client() as client:
            assert deliver(client, "", (untouched.tagged("rita@relay.test"),), LETTER).accepted
            refused = deliver(client, "", (untouched.tagged("ghost@relay.test"),), LETTER)
            assert refused.recipients[0].code == 550
        assert untouched.next_hop.refused == ("RCPT ghost@relay.test",)

    def test_a_folder_without_postfix(self, untouched: Fitted, tmp_path: Path) -> None:
        done = untouched.setup("--postfix-config", str(tmp_path))
        assert done.returncode == os.EX_UNAVAILABLE
        assert "Traceback" not in done.stderr
