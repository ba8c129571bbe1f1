"""Who has signed which rule: two reviewers of different roles, bound to the content they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cds_service.errors import ContentError, SignOffRefused
from cds_service.rules.content_hash import content_hash
from cds_service.rules.pack import Pack, read_single

SIGNATURES_NEEDED = 2


class Signature(NamedTuple):
    """One reviewer's word on one content of a rule. ``content`` is the hash of what they saw.

    ``evidence``: what the service had counted of the rule when they signed; empty where nobody looked.
    """

    by: str
    role: str
    on: str
    version: str
    content: str
    evidence: str = ""


class SignOffs(NamedTuple):
    """Every signature, with who wrote the rules and which roles there are."""

    authors: Mapping[str, Sequence[str]]
    roles: Mapping[str, str]
    signatures: Mapping[str, tuple[Signature, ...]]

    def valid(self, rule_id: str, content: str) -> tuple[Signature, ...]:
        """The signatures that hold for this content: void ones, and an author's own, do not count."""
        authors = self.authors_of(rule_id)
        return tuple(
            signature
            for signature in self.signatures.get(rule_id, ())
            if signature.content == content
            and not any(one_person(signature.by, author) for author in authors)
            and signature.role in self.roles
        )

    def lets_speak(self, rule_id: str, content: str) -> bool:
        """Whether two people with different roles, one of them clinical, have signed this content."""
        valid = self.valid(rule_id, content)
        others = [signature for signature in valid if not one_person(signature.by, valid[0].by)]
        roles = {signature.role for signature in valid}
        clinical = any(self.roles[role] == "clinical" for role in roles)
        return bool(others) and len(roles) >= SIGNATURES_NEEDED and clinical

    def authors_of(self, rule_id: str) -> frozenset[str]:
        """Those who wrote the rule and so may not sign it."""
        return frozenset(same_person(name) for name in self.authors.get(rule_id, self.authors["default"]))


def same_person(name: str) -> str:
    """A name as it is compared: case and spacing do not make another person."""
    return " ".join(name.casefold().split())


def one_person(name: str, other: str) -> bool:
    """Whether two names are the same person's.

    The desk signs as "name (subject)": the subject is the identity provider's and decides where both have one,
    because the name before it can be chosen. Where one has none, the name or the subject being the same is enough.
    """
    some, others = _name_and_subject(name), _name_and_subject(other)
    if some[1] and others[1]:
        return some[1] == others[1]
    return bool({part for part in some if part} & {part for part in others if part})


def _name_and_subject(name: str) -> tuple[str, str]:
    plain = same_person(name)
    before, bracket, subject = plain.rpartition(" (")
    return (before, subject[:-1]) if bracket and subject.endswith(")") else (plain, "")


def read_signoffs(root: Traversable | Path, file: Path | None = None, *, checks: bool = True) -> SignOffs:
    """The sign-offs of a cards/ folder, or of a hospital's own file. Raises ContentError.

    ``checks``: whether the file is held against its schema; where another process just did that, only one that has
    become unreadable since is.
    """
    place = file if file is not None else root / "signoff.yaml"
    source, mistakes = read_single(root, place, "signoff", checks=checks)
    if mistakes:
        raise ContentError(mistakes)
    try:
        signatures = {
            rule_id: tuple(Signature(**signature) for signature in signed)
            for rule_id, signed in source.data["signatures"].items()
        }
        return SignOffs(source.data["authors"], source.data["roles"], signatures)
    except (AttributeError, KeyError, TypeError):
        if checks:
            raise
    return read_signoffs(root, file)


def signatures_in_force(signoffs: SignOffs, contents: Mapping[str, str]) -> dict[str, tuple[Signature, ...]]:
    """The rules that production lets speak, with their signatures. ``contents``: rule id → hash of its content."""
    return {
        rule_id: signoffs.valid(rule_id, content)
        for rule_id, content in contents.items()
        if signoffs.lets_speak(rule_id, content)
    }


def sign(signoffs: SignOffs, pack: Pack, rule_id: str, by: str, role: str, on: str) -> SignOffs:
    """The sign-offs with one more signature under the pack as it is. Raises SignOffRefused as ``add_signature``."""
    if rule_id not in pack.rules:
        raise SignOffRefused(f"{rule_id}: no rule is called this; see cds-service check")
    version = pack.rules[rule_id][1].data["version"]
    return add_signature(signoffs, rule_id, Signature(by, role, on, version, content_hash(pack, rule_id)))


def add_signature(signoffs: SignOffs, rule_id: str, signature: Signature) -> SignOffs:
    """The sign-offs with one more signature.

    Raises SignOffRefused for a role that is not there, an author, and somebody who has signed this content before.
    """
    by, role = " ".join(signature.by.split()), signature.role
    if role not in signoffs.roles:
        raise SignOffRefused(f"{role}: no role is called this; the roles are {', '.join(signoffs.roles)}")
    if any(one_person(by, author) for author in signoffs.authors_of(rule_id)):
        raise SignOffRefused(f"{by} is an author of {rule_id}: somebody else has to review it")
    kept = signoffs.valid(rule_id, signature.content)  # void signatures are history of the file, not of the rule
    if any(one_person(known.by, by) for known in kept):
        raise SignOffRefused(f"{by} has signed this content of {rule_id} already: a second person is needed")
    added = (*kept, signature._replace(by=by))
    return signoffs._replace(signatures={**signoffs.signatures, rule_id: added})


def signoff_text(signoffs: SignOffs, head: str) -> str:
    """The sign-off file: its head of comments, then everything in a fixed order."""
    data: dict[str, Any] = {
        "authors": dict(signoffs.authors),
        "roles": dict(signoffs.roles),
        "signatures": {
            rule_id: [
                {key: value for key, value in signature._asdict().items() if value}
                for signature in signoffs.signatures[rule_id]
            ]
            for rule_id in sorted(signoffs.signatures)
        },
    }
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def head_of(text: str) -> str:
    """The comments at the top of a file."""
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.startswith("#"):
            break
        lines.append(line)
    return "".join(lines)
