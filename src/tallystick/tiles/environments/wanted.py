"""What a component may ask for: plain requirements, from indexes that the settings allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from tallystick.core.errors import NotSupported, Refused
from tallystick.core.pipeline.spec import Function

__all__ = ["Indexes", "requirements_of"]

REQUIREMENT_CHARS_MAX = 500
PACKAGES_MAX = 500


def requirements_of(code: Function) -> tuple[str, ...]:
    """The packages of ``code`` in a form of their own, sorted; NotSupported names the first that is none.

    Each comes out as ``packaging`` writes it, so that nothing in it can be an option, a path or an address.
    """
    if len(code.packages) > PACKAGES_MAX:
        raise NotSupported(
            f"it asks for {len(code.packages)} packages, the limit is {PACKAGES_MAX}", where=code.name
        )
    return tuple(sorted({_requirement(text, code.name) for text in code.packages}))


def _requirement(text: str, where: str) -> str:
    try:
        if not text.isprintable() or len(text) > REQUIREMENT_CHARS_MAX:
            raise InvalidRequirement(text)
        wanted = Requirement(text)
    except InvalidRequirement:
        raise NotSupported(
            f"package {text[:100]!r} is not a plain requirement",
            where=where,
            hint="write it like name==1.2; options, paths and addresses are not taken",
        ) from None
    if wanted.url:
        raise NotSupported(
            f"package {text[:100]!r} is an address and is never fetched",
            where=where,
            hint="put it into an index, name that in the setting package_indexes, and write name==1.2",
        )
    return str(wanted)


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes that components may name, beside the one that this machine has configured for itself."""

    allowed: frozenset[str]

    @classmethod
    def of(cls, urls: Iterable[str]) -> Indexes:
        """The setting ``package_indexes``, taken apart."""
        return cls(frozenset(_plain(url) for url in urls if url.strip()))

    def options(self, code: Function) -> list[str]:
        """As uv is told; Refused names the index or host that is not allowed.

        The first takes the place of the machine's own. Of two indexes that have a package, the first named
        one is asked and no other, whatever versions that has.
        """
        for url in code.index_urls:
            if _plain(url) not in self.allowed:
                raise Refused(
                    f"it names the package index {_shown(url)!r}, which is not allowed here",
                    where=code.name,
                    hint="whoever runs the hub may allow it: package_indexes = 'URL,URL', or leave it out",
                )
        hosts = {urlsplit(url).netloc.rpartition("@")[2] for url in code.index_urls}
        hosts |= {host.rpartition(":")[0] for host in hosts if ":" in host}
        for host in code.trusted_hosts:
            if host not in hosts:
                raise Refused(
                    f"it trusts the host {host[:100]!r}, which is that of no index that it names",
                    where=code.name,
                    hint="only the certificate of an allowed index can be left unasked",
                )
        first, rest = code.index_urls[:1], code.index_urls[1:]
        named = [f"--default-index={url}" for url in first] + [f"--index={url}" for url in rest]
        return [*named, *(f"--allow-insecure-host={host}" for host in code.trusted_hosts)]


def _plain(url: str) -> str:
    return url.strip().rstrip("/")


def _shown(url: str) -> str:
    """Without what may be a password, and not too long."""
    before, at, after = url.rpartition("@")
    return (f"{before.partition('://')[0]}://...@{after}" if at else url)[:200]
