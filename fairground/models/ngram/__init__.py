"""N-gram language models over token ids: counted, smoothed as Kneser and Ney do, kept in a few bytes an n-gram."""

from fairground.models.ngram.file import MODEL_TYPE, load, save
from fairground.models.ngram.fit import fit
from fairground.models.ngram.model import Level, NGram

__all__ = ["MODEL_TYPE", "Level", "NGram", "fit", "load", "save"]
