"""Everything Fairground raises on purpose.

The message of each is one sentence for the person at the terminal: what happened, why, and what to do next. The command
line prints it and exits with status 2; nothing has been written by then.

    FairgroundError
    ├── ModelError               a model cannot be had or cannot be understood
    │   ├── UnknownModel         no such name in the catalogue, no such folder or file
    │   ├── ConfigError          a config asks for mathematics that we do not do
    │   ├── WeightsError         a weight file is damaged, incomplete or does not match its config
    │   ├── TokenizerError       a tokenizer cannot be read
    │   ├── TemplateError        a chat template cannot be run
    │   └── DoesNotFit           the model needs more memory than there is
    ├── RequestError             a prompt or a sampling setting that cannot be served
    ├── EngineError              the engine broke down and writes nothing more
    ├── CapabilityError          this generator cannot do what is asked of it
    ├── RemoteError              a server did not answer as it should
    │   └── BrokenAnswer         its answer came to no good end; asking again may help
    ├── ClusterError             a cluster cannot be reached, or a worker of it cannot do its part
    ├── DownloadError            a file could not be fetched or does not match its hash
    ├── SuiteError               a suite or one of its lines is malformed (names file and line)
    ├── DataError                a file of battles, votes or texts is malformed
    ├── StoreError               the database cannot be opened, read or written
    ├── ArenaRefusal             the arena does not do what it is asked, with the HTTP status that says so
    │   └── VoteRefused          a vote that does not count
    ├── TrainingError            a recipe that cannot be run, or a run that cannot go on
    └── MissingExtra             needs an optional part of the package
"""


class FairgroundError(Exception):
    """The root of the tree: catch this to catch everything that is meant for a person to read."""


class ModelError(FairgroundError):
    """A model cannot be had or cannot be understood."""


class UnknownModel(ModelError):
    """No such name in the catalogue, no such folder or file."""


class ConfigError(ModelError):
    """A config asks for mathematics that we do not do."""


class WeightsError(ModelError):
    """A weight file is damaged, incomplete or does not match its config."""


class TokenizerError(ModelError):
    """A tokenizer cannot be read."""


class TemplateError(ModelError):
    """A chat template cannot be run."""


class DoesNotFit(ModelError):
    """The model needs more memory than there is."""


class RequestError(FairgroundError):
    """A prompt or a sampling setting that cannot be served.

    Of several requests handed over together, `number` says which it was, from 0; `reason` is the sentence without it.
    """

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason if number is None else f"Request {number + 1}: {reason}")
        self.reason, self.number = reason, number


class EngineError(FairgroundError):
    """The engine broke down and writes nothing more."""


class CapabilityError(FairgroundError):
    """This generator cannot do what is asked of it."""


class RemoteError(FairgroundError):
    """A server did not answer as it should."""


class BrokenAnswer(RemoteError):
    """An answer began, or was waited for, and came to no good end; asking again may help."""


class ClusterError(FairgroundError):
    """A cluster cannot be reached, or a worker of it cannot do its part; the message names it."""


class DownloadError(FairgroundError):
    """A file could not be fetched or does not match its hash."""


class SuiteError(FairgroundError):
    """A suite or one of its lines is malformed; the message names file and line."""


class DataError(FairgroundError):
    """A file of battles, votes or texts is malformed; the message names file and line."""


class StoreError(FairgroundError):
    """The database cannot be opened, read or written."""


class ArenaRefusal(FairgroundError):
    """The arena does not do what it is asked: who asks may not, or what is asked makes no sense.

    `status` is the HTTP status that says so: 400, 401, 403, 404, 409, 410, 413, 429 or 503.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class VoteRefused(ArenaRefusal):
    """A vote that does not count: nothing of it was written."""


class TrainingError(FairgroundError):
    """A recipe that cannot be run, or a run that cannot go on; the message says what stands."""


class MissingExtra(FairgroundError):
    """Needs an optional part of the package; the message says which and how to install it."""
