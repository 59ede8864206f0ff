"""The model families, one file each: what a published config means, and what its weights are called."""

from fairground.errors import ConfigError
from fairground.models.families import gpt2, gpt_j, gpt_neo, llama, mistral
from fairground.models.families.family import Family

FAMILIES: tuple[Family, ...] = (gpt2.FAMILY, gpt_neo.FAMILY, gpt_j.FAMILY, llama.FAMILY, mistral.FAMILY)


def family_named(name: str) -> Family:
    """The family of that name. Raises ConfigError, listing those there are."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise ConfigError(f"There is no family {name!r} here; the families are {', '.join(f.name for f in FAMILIES)}.")


def family_of(config: dict[str, object]) -> Family:
    """The family that a Hugging Face config names by its architecture, or else by its model type.

    Raises ConfigError for one that is not ours, naming it.
    """
    architectures = config.get("architectures") or []
    named = [str(name) for name in architectures] if isinstance(architectures, list) else [str(architectures)]
    for family in FAMILIES:
        if family.architecture in named or (not named and family.model_type == config.get("model_type")):
            if config.get("model_type") not in (None, family.model_type):
                raise ConfigError(
                    f"config.json names the architecture {family.architecture} but the model type "
                    f"{config['model_type']!r}; one of the two is wrong, so nothing was loaded."
                )
            return family
    what = ", ".join(named) or config.get("model_type") or "nothing"
    raise ConfigError(
        f"config.json names the architecture {what}, which Fairground does not run; it runs "
        f"{', '.join(f.architecture for f in FAMILIES)}."
    )
