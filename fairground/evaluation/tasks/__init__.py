"""The kinds of task, each in a file that can be read alone."""

from fairground.evaluation.tasks.base import Item, ItemT, Outcome, ScoredTask, SuiteKind, Task, WrittenTask
from fairground.evaluation.tasks.continuation import ChoiceInContext, Continuation
from fairground.evaluation.tasks.fairness import BiasQuestions, Counterfactual, MinimalPairs
from fairground.evaluation.tasks.generation import Generation, Translation
from fairground.evaluation.tasks.multiple_choice import CHOICES_ONLY, ChoiceItem, ChoicesOnly, MultipleChoice
from fairground.evaluation.tasks.open_answers import OpenAnswers, OpenItem
from fairground.evaluation.tasks.order import OrderDiscrimination, Passage
from fairground.evaluation.tasks.privacy import Extraction, PersonalData
from fairground.evaluation.tasks.robustness import Robustness
from fairground.evaluation.tasks.text import BitsPerByte
from fairground.evaluation.tasks.true_answers import TrueAnswers
from fairground.evaluation.tasks.winogender import WinoGender

_IN_SUITES: tuple[type[SuiteKind], ...] = (
    MultipleChoice,
    ChoiceInContext,
    Continuation,
    OrderDiscrimination,
    BitsPerByte,
    MinimalPairs,
    Counterfactual,
    WinoGender,
    BiasQuestions,
    TrueAnswers,
    Robustness,
    Generation,
    Translation,
    OpenAnswers,
    Extraction,
    PersonalData,
)
KINDS = {kind.kind: kind for kind in _IN_SUITES}

__all__ = [
    "CHOICES_ONLY",
    "KINDS",
    "BiasQuestions",
    "BitsPerByte",
    "ChoiceInContext",
    "ChoiceItem",
    "ChoicesOnly",
    "Continuation",
    "Counterfactual",
    "Extraction",
    "Generation",
    "Item",
    "ItemT",
    "MinimalPairs",
    "MultipleChoice",
    "OpenAnswers",
    "OpenItem",
    "OrderDiscrimination",
    "Outcome",
    "Passage",
    "PersonalData",
    "Robustness",
    "ScoredTask",
    "Task",
    "Translation",
    "TrueAnswers",
    "WinoGender",
    "WrittenTask",
]
