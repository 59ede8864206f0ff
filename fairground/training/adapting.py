"""What training does otherwise where adapters are trained and not a model's own weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairground.errors import ConfigError
from fairground.models.decoder import Decoder
from fairground.models.lora import LoraConfig, adapters_of, add_lora
from fairground.models.peft_files import holds_adapter, save_adapter, weights_hash
from fairground.training.recipe import Recipe
from fairground.training.sizes import is_new_model


@dataclass(frozen=True, slots=True)
class Adapted:
    """A base by its name and the SHA-256 of its weight files, its adapters' settings, and their number of weights."""

    base: str
    sha256: str
    lora: LoraConfig
    trained: int

    def summary(self) -> dict[str, Any]:
        """For training.json."""
        return {"base": self.base, "base_sha256": self.sha256, "trained_parameters": self.trained}

    def save(self, decoder: Decoder, folder: Path) -> None:
        """Writes the adapter's folder."""
        save_adapter(folder, decoder.config, self.lora, adapters_of(decoder), base=self.base, sha256=self.sha256)


def begin_lora(decoder: Decoder, recipe: Recipe, lora: LoraConfig, base: str | None) -> Adapted:
    """Puts adapters into the decoder. Raises ConfigError where it has no such layers."""
    add_lora(decoder, lora, recipe.seed)
    trained = sum(weight.numel() for weight in decoder.parameters() if weight.requires_grad)
    return Adapted(base or str(Path(recipe.model).resolve()), weights_hash(Path(recipe.model)), lora, trained)


def check_begin(recipe: Recipe) -> None:
    """Raises ConfigError for what cannot be trained on: an adapter, and with LoRA also a new model."""
    if recipe.lora and is_new_model(recipe.model):
        raise ConfigError(f"{recipe.model} is a new model, which has nothing to adapt; leave LoRA out.")
    if holds_adapter(Path(recipe.model)):
        raise ConfigError(
            f"{recipe.model} is an adapter, which cannot be trained on by itself; merge it first: "
            f"fairground merge {recipe.model} --out FOLDER."
        )
