"""From an adapter's folder to an ordinary model's folder."""

from __future__ import annotations

from pathlib import Path

import torch

from fairground.errors import ConfigError
from fairground.models.assemble import Precision, save, write_json, write_text
from fairground.models.load import open_source


def write_merged(
    adapter: Path,
    out: Path,
    *,
    base: Path | None = None,
    precision: Precision = "bfloat16",
    allow_pickle: bool = False,
) -> None:
    """Writes a base with its adapter merged, which Transformers loads: weights, tokenizer and a card.

    The sums are float32 and rounded once, to `precision`. Raises ConfigError where `adapter` is none or `out` is not
    empty, and a ModelError where base and adapter do not belong together; nothing is written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already and not an empty folder, so nothing was merged; give another --out.")
    source = open_source(adapter, base=base, allow_pickle=allow_pickle)
    if source.adapter is None:
        raise ConfigError(
            f"{adapter} is a model and no adapter, so there is nothing to merge; give an adapter's folder."
        )
    words = source.tokenizer()
    decoder = source.load(precision).decoder
    # The tokenizer first and the config last, so that a folder with a config is whole.
    words.save(out)
    ends = {"bos_token_id": words.bos_id, "eos_token_id": sorted(words.eos_ids)}
    write_json(out / "generation_config.json", ends)
    write_text(out / "README.md", _card(adapter, out, source.adapter.base))
    save(decoder.to(torch.float32 if precision == "float32" else torch.bfloat16), out, tokens=ends)


def _card(adapter: Path, out: Path, base: str | None) -> str:
    """What was merged into what, and then the adapter's own card."""
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "---", "", f"# {out.name}", ""]
    lines += [f"The adapter `{adapter.name}` merged into its base, `{base or 'which it does not name'}`.", ""]
    try:
        own = (adapter / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "\n".join(lines)
    if own.startswith("---\n"):
        own = own.partition("\n---\n")[2]
    return "\n".join([*lines, "The adapter's card:", "", own.strip(), ""])
