"""Commands about what goes with a model: download, verify, sign, bom, consent."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tallystick.core.data import TRAINING, TableRef
from tallystick.core.errors import BadInput, NotSupported, Unavailable
from tallystick.core.model import ModelRef
from tallystick.doors.vouch.check import (
    MODEL,
    SIGSTORE_FILE,
    Checked,
    Identified,
    Inspect,
    Others,
    check_download,
)
from tallystick.doors.vouch.download import download
from tallystick.doors.vouch.identities import Identity, identities_in, one_identity
from tallystick.doors.vouch.keys import OpenSigning, keys_for, read_key
from tallystick.doors.vouch.stock import ask_stock, vouched
from tallystick.ports.models.signing import Signing
from tallystick.terminal.client import Hub
from tallystick.terminal.context import Tally, common
from tallystick.terminal.show import short

__all__ = ["all_commands"]

WRONG = 1
"""Exit status of a check that found something wrong."""
STATEMENT_TYPE = "application/vnd.in-toto+json"
trusting = click.option(
    "--trust-config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The client trust config of a Sigstore of your own (default: the public one).",
)
MARKS = {True: "ok", False: "WRONG", None: "-"}


def download_command() -> click.Command:
    """``tally download MODEL DIR``."""

    @click.command(name="download")
    @click.argument("model")
    @click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
    @common
    @click.pass_obj
    def run(tally: Tally, model: str, folder: Path) -> None:
        """Write MODEL (NAME or NAME@VERSION) into a new folder DIR, with what vouches for it beside.

        DIR/model are the model's files; provenance.json, model.sig, bom.json and verdict.json say where they
        come from and that they passed. `tally verify DIR` checks them anywhere.
        """
        with tally.screen.counting(model) as progress:
            said = download(tally.hub, model, folder, progress)
        key, papers = f"{said['model']['name']}@{said['model']['version']}", sorted(said["papers"])
        lines = [f"{key} is in {folder}, content {short(said['model']['digest'])}"]
        lines.append(f"with {', '.join(papers)}" if papers else "with nothing that vouches for it")
        lines += [] if "provenance.json" in papers else [f"nobody signed it: tally sign {key}"]
        lines += [] if "verdict.json" in papers else [f"it has no signed verdict: tally judge {key}"]
        tally.screen.result(said, "\n".join(lines))

    return run


def verify_command(open_signing: OpenSigning, inspect: Inspect | None) -> click.Command:
    """``tally verify DIR|MODEL``."""

    @click.command(name="verify")
    @click.argument("what", metavar="DIR|MODEL")
    @click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="PEM",
        type=click.Path(path_type=Path),
        help="Trust this public key, and only those that are named so (default: those of the home).",
    )
    @click.option(
        "--stock",
        is_flag=True,
        help="Have OpenSSF's own library verify model.sig too; name its key with --key.",
    )
    @click.option("--without-verdict", is_flag=True, help="Do not ask for a verdict that passed.")
    @click.option(
        "--identity", default="", metavar="WHO", help="It must be signed by them with Sigstore too."
    )
    @click.option("--issuer", default="", metavar="URL", help="Who vouches that it is WHO.")
    @trusting
    @common
    @click.pass_obj
    def run(tally: Tally, /, what: str, stock: bool, without_verdict: bool, **said: Any) -> None:
        """Check a download (`tally download`) by nothing but its files and public keys; nothing is loaded.

        It needs no hub, no network and no home. For a MODEL, its download is fetched first and then thrown
        away. Exit status 1, with the first reason, where anything is wrong, missing or too much.
        """
        who, trust = one_identity(said["identity"], said["issuer"]), said["trust_config"]
        signing = keys_for(tally, said["keys"], open_signing)
        with _folder(tally, what) as folder, tally.screen.counting("reading") as progress:
            found = check_download(
                folder,
                signing,
                time.time_ns() // 1_000_000,
                inspect=inspect,
                verdict=not without_verdict,
                others=Others(ask_stock if stock else None, _identified(who or _known(tally, folder), trust)),
                progress=progress,
            )
        _tell(tally, found)

    return run


def _known(tally: Tally, folder: Path) -> Sequence[Identity]:
    """Whose identity is trusted here; of a download that nobody signed so, nobody's is asked for."""
    return identities_in(Path(tally.home)) if (folder / SIGSTORE_FILE).exists() else ()


@contextmanager
def _folder(tally: Tally, what: str) -> Iterator[Path]:
    """The folder that is meant, or one with a model's download, for as long as it is looked at."""
    if Path(what).is_dir():
        yield Path(what)
        return
    try:
        ModelRef.parse(what)
    except BadInput:
        raise BadInput("it is no folder, and no model's name", where=what[:200]) from None
    temp = Path(tempfile.mkdtemp(prefix="tally-verify-"))
    try:
        with tally.screen.counting(what) as progress:
            download(_hub(tally, what), what, temp / "it", progress)
        yield temp / "it"
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _hub(tally: Tally, what: str) -> Hub:
    """The hub that has the model; who meant a folder learns that there is none."""
    try:
        tally.hub.get("/status")
        return tally.hub
    except Unavailable as wrong:
        words = f"there is no such folder here, and no hub to ask for a model of that name: {wrong.what}"
        raise Unavailable(words, where=what[:200], hint=wrong.hint) from None


def _tell(tally: Tally, found: Checked) -> None:
    rows = [[MARKS[check.ok], check.name, check.text] for check in found.checks]
    tally.screen.table(found.to_wire(), ("", "what", "found"), rows, "")
    if found.ok:
        tally.screen.say(f"{found.model} is what it is said to be")
        return
    tally.screen.say(f"not verified: {found.why}")
    click.get_current_context().exit(WRONG)


def sign_command(open_signing: OpenSigning) -> click.Command:
    """``tally sign MODEL``."""

    @click.command(name="sign")
    @click.argument("model")
    @click.option(
        "--key",
        metavar="PEM",
        type=click.Path(path_type=Path),
        help="Sign with this private key of yours instead of the hub's; it never leaves this machine.",
    )
    @click.option(
        "--sigstore", is_flag=True, help="Sign a download (DIR) with an identity; needs the network."
    )
    @click.option(
        "--identity-token",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="A file with that identity's OIDC token (default: SIGSTORE_ID_TOKEN, or what the CI gives).",
    )
    @trusting
    @common
    @click.pass_obj
    def run(
        tally: Tally,
        model: str,
        key: Path | None,
        sigstore: bool,
        identity_token: Path | None,
        trust_config: Path | None,
    ) -> None:
        """Vouch for MODEL: say that its files are what they should be, for one that came without a run.

        Models that a pipeline run made here are signed by themselves. Whose files may run code as they are
        loaded is admitted only once somebody has vouched for it.
        """
        if sigstore or identity_token:
            if key:
                raise BadInput(
                    "sign with a key or with an identity", where="--sigstore", hint="twice, for both"
                )
            tally.screen.result(*_signed_by_identity(Path(model), identity_token, trust_config))
            return
        found = _signed_by(tally, model, open_signing(Path(), private=read_key(key))) if key else None
        found = found or tally.hub.post("/attestations", model=model)
        words = f"not on record: {', '.join(found['missing'])}" if found["missing"] else "lineage complete"
        tally.screen.result(found, f"{found['model']} is signed by {short(found['signer'])}; {words}")

    return run


def _signed_by_identity(folder: Path, token: Path | None, trust: Path | None) -> tuple[Any, str]:
    """Sign a download with an identity of Sigstore's, and look at what came of it."""
    if not (folder / MODEL).is_dir():
        hint = f"tally download {shlex.quote(str(folder))} DIR, then: tally sign DIR --sigstore"
        raise BadInput("an identity signs a download, on this machine", where=str(folder)[:200], hint=hint)
    said = read_key(token).strip() if token else os.environ.get("SIGSTORE_ID_TOKEN", "")
    order = {"do": "sign", "folder": str((folder / MODEL).absolute()), "token": said}
    order["signature"] = str((folder / SIGSTORE_FILE).absolute())
    found = vouched({**order, "trust": str(trust.absolute()) if trust else ""})
    words = f"{folder} is signed by {found['identity']}, as {found['issuer']} says: {SIGSTORE_FILE}"
    return found, words


def _identified(identities: Sequence[Identity], trust: Path | None) -> Identified | None:
    """What looks at a signature of Sigstore's, offline; None where nobody's identity is trusted."""
    if not identities:
        return None

    def look(bundle: Path) -> tuple[str, str, bytes]:
        order = {"do": "identity", "bundle": str(bundle), "trust": str(trust.absolute()) if trust else ""}
        said = vouched({**order, "identities": [[i.who, i.issuer] for i in identities]})
        words = f"signed by {said['identity']}, as {said['issuer']} says; Sigstore {said['version']}"
        return words, str(said["payload_type"]), base64.b64decode(said["payload"])

    return look


def _signed_by(tally: Tally, model: str, person: Signing) -> Any:
    """Fetch what is to be signed, sign it here, and hand that in."""
    made = tally.hub.post("/attestations/draft", model=model)
    statement, signature = (base64.b64decode(made[name]) for name in ("statement", "signature"))
    envelope = person.sign(STATEMENT_TYPE, statement)
    try:
        bundle = person.sign_model(signature)
    except NotSupported as wrong:  # the statement under it lists each file as well
        tally.screen.say(f"without model.sig: {wrong.what}")
        bundle = None
    body = {"model": made["model"], "envelope": envelope, "bundle": bundle, "bom": made["bom"]}
    return tally.hub.post("/attestations/signed", **body)


def bom_command() -> click.Command:
    """``tally bom MODEL``."""

    @click.command(name="bom")
    @click.argument("model")
    @common
    @click.pass_obj
    def run(tally: Tally, model: str) -> None:
        """Print MODEL's bill of materials: CycloneDX 1.6 with its model card, tables and packages."""
        tally.screen.json(tally.hub.post("/bom", model=model))

    return run


def consent_command() -> click.Command:
    """``tally consent TABLE``."""

    @click.command(name="consent")
    @click.argument("table")
    @click.option("--use", default=TRAINING, show_default=True, help="What for.")
    @click.option("--owner", default="", metavar="NAME", help="Who allows it.")
    @click.option("--withdraw", is_flag=True, help="Take it back.")
    @common
    @click.pass_obj
    def run(tally: Tally, table: str, use: str, owner: str, withdraw: bool) -> None:
        """Put on record that NAME allows the rows of TABLE (or TABLE@SNAPSHOT) to be used.

        It is about the rows that are there now. Rows that are added later need a consent of their own.
        """
        if bool(owner) is withdraw:
            raise click.UsageError("say --owner NAME, or --withdraw")
        body = {"table": str(TableRef.parse(table)), "use": use, "owner": owner, "withdraw": withdraw}
        found = tally.hub.post("/consents", **body)
        words = "is withdrawn" if withdraw else f"is given by {owner}"
        key = f"{found['table']}@{found['snapshot_id']}"
        tally.screen.result(found, f"consent to {use} of {key} {words}")

    return run


def all_commands(open_signing: OpenSigning, inspect: Inspect | None) -> Sequence[click.Command]:
    """Those of this file."""
    return (
        download_command(),
        verify_command(open_signing, inspect),
        sign_command(open_signing),
        bom_command(),
        consent_command(),
    )
