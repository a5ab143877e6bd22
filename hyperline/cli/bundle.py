"""``hyperline inspect``, ``verify`` and ``sign``: what is in a bundle, and may it be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from hyperline.bundle import Bundle, Card

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_FILE, metavar="FILE.hlb")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(file: Path, as_json: bool) -> None:
    """Show what a bundle holds: its card, members, accuracy and state. Verifies it first."""
    from rich.console import Console

    from hyperline.bundle import read_bundle

    bundle = read_bundle(file)
    if as_json:
        click.echo(json.dumps(_description(bundle)))
        return
    # The card's strings are a stranger's: no markup, and the reader has refused control characters.
    console = Console(markup=False, emoji=False, highlight=False)
    for table in (_card_table(bundle), _accuracy_table(bundle), _member_table(bundle)):
        console.print(table)


@click.command()
@click.argument("file", type=_FILE, metavar="FILE.hlb")
@click.option("--public-key", type=_FILE, metavar="PEM", help="Demand a signature by this ed25519 key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(file: Path, public_key: Path | None, as_json: bool) -> None:
    """Check every byte of a bundle; exit code 0 only where it is intact."""
    from hyperline.api.verification import verify_bundle

    found = verify_bundle(file, public_key)
    bundle = found.bundle
    if as_json:
        report = {
            "path": str(file),
            "intact": True,
            "sha256": found.sha256,
            "signed_by": found.signed_by,
            "key_demanded": found.key_demanded,
        }
        click.echo(json.dumps(report))
        return
    if found.signed_by is None:
        signed = "not signed"
    elif found.key_demanded:
        signed = f"by the demanded key {found.signed_by}"
    else:
        signed = f"matches key {found.signed_by}; whose it is was not checked: --public-key does that"
    lines, samples, bands = bundle.golden()["lines"].shape
    click.echo(f"{file} is intact")
    click.echo("  archive      every byte as the format demands")
    click.echo(f"  members      size and SHA-256 of {len(bundle.members)} match the manifest")
    click.echo("  card         within its limits")
    click.echo(f"  golden block {lines} lines x {samples} samples x {bands} bands, as the card demands")
    click.echo(f"  signature    {signed}")
    click.echo(f"  SHA-256      {bundle.sha256}")
    click.echo("not checked: what the ONNX graph computes")


@click.command()
@click.argument("file", type=_FILE, metavar="FILE.hlb")
@click.option("--key", type=_FILE, metavar="PEM", required=True, help="ed25519 private key, unencrypted.")
@click.option("--out", type=_FILE, metavar="FILE.hlb", help="Write here instead of in place.")
def sign(file: Path, key: Path, out: Path | None) -> None:
    """Sign a bundle with a key made by: openssl genpkey -algorithm ed25519 -out KEY.pem."""
    from hyperline.bundle import sign_bundle

    bundle = sign_bundle(file, key, out)
    assert bundle.manifest.signature is not None
    click.echo(f"wrote {bundle.path}, signed by {bundle.manifest.signature.public_key}")


def _description(bundle: Bundle) -> dict[str, Any]:
    manifest, card = bundle.manifest.model_dump(), bundle.card
    return {
        "path": str(bundle.path),
        "bytes": bundle.size,
        "sha256": bundle.sha256,
        "format": manifest["format"],
        "members": manifest["members"],
        "signature": manifest["signature"],
        "precisions": bundle.precisions,
        "state": {"tensors": len(card.states), "bytes_per_sample": _state_bytes_per_sample(bundle)},
        "card": card.model_dump(),
    }


def _state_bytes_per_sample(bundle: Bundle) -> float:
    card = bundle.card
    return card.state_bytes(card.sample_multiple) / card.sample_multiple


def _confidence(card: Card) -> str:
    one = card.confidence
    if one is None:
        return "not measured"
    return f"off by {one.ece_after:.1%} (ECE) at temperature {one.temperature:.2f}, by {one.ece_before:.1%} without"


def _card_table(bundle: Bundle) -> Table:
    from rich.table import Table

    card, signature = bundle.card, bundle.manifest.signature
    table = Table(title=str(bundle.path), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    wavelengths = card.wavelengths_nm
    span = f", {min(wavelengths):g} to {max(wavelengths):g} nm" if wavelengths else ", wavelengths unknown"
    for field, value in {
        "model": card.name,
        "created": f"{card.created} by hyperline {card.hyperline}",
        "block": f"{card.block_lines} lines, samples a multiple of {card.sample_multiple}",
        "bands": f"{card.bands}{span}",
        "composite": "red, green, blue from bands " + ", ".join(map(str, card.composite_bands)),
        "scale": f"{card.scale:g}",
        "no data": "not declared" if card.nodata is None else f"{card.nodata:g}",
        "state": f"{len(card.states)} tensors, {_state_bytes_per_sample(bundle):g} bytes per sample",
        "precisions": ", ".join(bundle.precisions),
        "parity": ", ".join(f"{name} {value:g}" for name, value in card.parity.items()) or "not stated",
        "confidence": _confidence(card),
        # JSON in ASCII: whatever a stranger put here, the terminal sees no control character.
        "training": json.dumps(card.training),
        "signature": f"matches key {signature.public_key}" if signature else "not signed",
        "SHA-256": bundle.sha256,
    }.items():
        table.add_row(field, value)
    return table


def _accuracy_table(bundle: Bundle) -> Table:
    from rich.table import Table

    card = bundle.card
    table = Table("class", "offline", "streamed", title="Accuracy on labelled pixels not trained on, %")
    columns = [card.offline, card.streamed]
    for title, field in (("OA", "oa"), ("AA", "aa"), ("kappa x 100", "kappa"), ("pixels", "pixels")):
        values = [getattr(accuracy, field) if accuracy else None for accuracy in columns]
        if field == "pixels":
            table.add_row(title, *("-" if value is None else str(value) for value in values), end_section=True)
        else:
            table.add_row(title, *map(_percent, values))
    for index, name in enumerate(card.class_names):
        table.add_row(
            f"{index + 1} {name}",
            *(_percent(accuracy.per_class[index] if accuracy else None) for accuracy in columns),
        )
    return table


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _member_table(bundle: Bundle) -> Table:
    from rich.table import Table

    table = Table("member", "bytes", "SHA-256 begins", title="Members")
    for name, member in bundle.manifest.members.items():
        table.add_row(name, str(member.size), member.sha256[:16])
    return table
