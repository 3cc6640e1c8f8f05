"""Words for what tells who or where somebody is: paths, addresses, names of hosts and people, ids of devices.

Rather too much is replaced than too little: a path without quotes ends at a colon or with its line, since folders may
have spaces in their names. Names of modules, files and versions stay.
"""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_UUID = re.compile(r"(?:GPU-|MIG-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PCI = re.compile(r"\b[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-9a-fA-F]\b")
_MAC = re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`<>]+")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*")

_ROOT = r"(?:~[\w.-]*[/\\]|/(?=[\w.@~])|\\\\(?=\w)|[A-Za-z]:[\\/](?=\S))"
"""How an absolute path begins: home, root, a share, a drive."""
_QUOTED = re.compile(rf"(?P<quote>['\"`])({_ROOT}(?:(?!(?P=quote))[^\n]|(?P=quote)(?=\w))*)(?P=quote)")
_BARE = re.compile(rf"(?<![\w.~>+</\\:])({_ROOT}(?:[^\n:'\"`]|:(?=[^\s\d:])|['\"`](?=\w))*)")
"""A colon before a blank or a line number ends it, an apostrophe within a word does not."""
_CODE = re.compile(
    r"[/\\]((?:torch|transformers|peft|bitsandbytes|triton|liger_kernel|accelerate|safetensors|numpy|engine)"
    r"(?:[/\\]\w+)*\.(?:py|so))$"
)
"""Where an error comes from in published code helps, and tells nothing of its folder."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PRIVATE = ("local", "localdomain", "lan", "internal", "intranet", "intra", "corp", "home", "arpa", "cluster", "cloud")
_PUBLIC = ("com", "org", "net", "edu", "gov", "mil", "biz", "info", "eu", "co", "tech", "online", "systems")
_COUNTRIES = ("de", "fr", "uk", "nl", "be", "ch", "es", "us", "ca", "au", "jp", "cn", "kr", "ru", "br", "se", "fi")
_MORE_COUNTRIES = ("dk", "cz", "pl", "at", "no", "it", "ie", "il", "gr", "tr", "ua", "sg", "tw", "hk", "nz", "za", "mx")
_AMBIGUOUS = ("io", "ai", "dev", "app", "in", "is", "pt", "me", "ac", "sh", "name")
"""Also names of modules, files or methods: with two labels before them only."""
_OURS = r"(?!(?:torch\w*|transformers|peft|bitsandbytes|triton|numpy|engine|self|model|accelerate|os|sys)\.)"
_SURE = "|".join((*_PRIVATE, *_PUBLIC, *_COUNTRIES, *_MORE_COUNTRIES))
_DOMAIN = re.compile(
    rf"(?<![\w.-]){_OURS}(?:(?:{_LABEL}\.)+(?:{_SURE})|(?:{_LABEL}\.){{2,}}(?:{'|'.join(_AMBIGUOUS)}))(?![\w-]|\.\w|\()",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\w.+-])(?<!version )(?<!cudnn )(?<!cuDNN )(?:\d{1,3}\.){3}\d{1,3}(?![\w+-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?:%\w+)?(?![\w:])")


def clean(value: Any) -> Any:
    """`value` with every text in it cleaned, keys too."""
    rules = tuple(_rules())
    return _cleaned(value, rules)


def _cleaned(value: Any, rules: tuple[Rule, ...]) -> Any:
    if isinstance(value, dict):
        return {_cleaned(str(key), rules): _cleaned(item, rules) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item, rules) for item in value]
    if not isinstance(value, str):
        return value
    for pattern, word in rules:
        value = pattern.sub(word, value)
    return value


def _rules() -> Iterator[Rule]:
    """What may hold other things first: an address of a page has a host, a path may have a user."""
    yield _UUID, "<uuid>"
    yield _PCI, "<bus>"
    yield _URL, "<address>"
    yield _QUOTED, lambda found: found[1] + _path(found[2]) + found[1]
    yield _BARE, lambda found: _path(found[1])
    yield _MAIL, "<mail>"
    yield _MAC, "<address>"
    yield _IPV4, _ip
    yield _IPV6, _ip
    yield _DOMAIN, "<host>"
    for names, word in ((_hosts(), "<host>"), (_users(), "<user>")):
        for name in sorted(names, key=len, reverse=True):
            yield re.compile(rf"(?<![\w<]){re.escape(name)}(?![\w>])", re.IGNORECASE), word


def _path(text: str) -> str:
    code = _CODE.search(text.rstrip())
    return f"<path>/{code[1]}" if code else "<path>"


def _ip(found: re.Match[str]) -> str:
    """An address that is one; without a digit it is rather a name in C++."""
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return "<address>" if any(letter.isdigit() for letter in found[0]) else found[0]


def _hosts() -> set[str]:
    whole = os.uname().nodename
    return {name for name in (whole, whole.partition(".")[0], os.environ.get("HOSTNAME", "")) if len(name) > 1}


def _users() -> set[str]:
    names = {os.environ.get(key, "") for key in ("USER", "LOGNAME", "SUDO_USER")}
    with contextlib.suppress(KeyError, OSError):  # no name in the system: nothing to hide
        names.add(getpass.getuser())
    names.add(os.path.basename(os.path.expanduser("~")))
    return {name for name in names if len(name) > 1}
