"""What people name on a command line: domains and addresses, folded, or refused in words."""

import os
from typing import NoReturn

from backstop import batv
from backstop.address import Address, fold_domain, parse, without_extension
from backstop.cli import effective
from backstop.cli.output import CommandFailed
from backstop.cli.store import Toggles, protected
from backstop.config import Config, values
from backstop.settings import DomainSettings


def domain(text: str) -> str:
    """A domain, folded. Raises `CommandFailed`."""
    if "@" in text:
        _refuse(f'"{text}" is an address; a domain is wanted')
    return fold_domain(text.strip()) or _refuse(f'"{text}" is no domain')


def new_domain(text: str) -> str:
    """A domain that shall be protected, by the rules of the configuration file. Raises `CommandFailed`."""
    try:
        return values.domain(text)
    except ValueError as error:
        _refuse(str(error))


def protected_domain(config: Config, toggles: Toggles, text: str) -> str:
    """A domain that is protected. Raises `CommandFailed`."""
    name = domain(text)
    if not protected(config, toggles, name):
        raise CommandFailed(not_protected(config, name), status=os.EX_USAGE)
    return name


def address(text: str) -> Address:
    """An address with a domain. Raises `CommandFailed`."""
    found = parse(text.strip())
    if found is None or not found.domain or not found.local:
        _refuse(f'"{text}" is no address')
    return found


def mailbox(found: Address, settings: DomainSettings) -> str:
    """The key of an address: without tag and extension, in lower case."""
    tag = batv.parse(found, settings.recipient_delimiter)
    local = (tag.inner if tag else found).local
    return f"{without_extension(local, settings.recipient_delimiter).lower()}@{found.domain}"


def locals_(found: Address, delimiters: str) -> list[str]:
    """The local parts under which an address may exist: without tag, with its extension and without.

    They are as written; most sources want them in lower case.
    """
    tag = batv.parse(found, delimiters)
    full = (tag.inner if tag else found).local
    return list(dict.fromkeys((full, without_extension(full, delimiters))))


def block_name(config: Config, toggles: Toggles, text: str) -> str:
    """The last part of a block's key, for a domain or an address as a person writes it."""
    if "@" not in text:
        return domain(text)
    found = address(text)
    return mailbox(found, effective.read(config, toggles, found.domain).settings)


def not_protected(config: Config, name: str) -> str:
    """Why a command refuses a domain, and the cure."""
    return (
        f"{name} is not protected; add it to domains in {config.path}, or with `backstop domain add {name}`"
    )


def _refuse(text: str) -> NoReturn:
    raise CommandFailed(text, status=os.EX_USAGE)
