"""The exceptions a caller may catch; each message says what happened, why, and what to type next."""

import difflib
from collections.abc import Iterable


class HarborNbError(Exception):
    """Base class of every error that harbor_nb raises on purpose."""


class BadInputError(HarborNbError, ValueError):
    """An argument, a path or a configuration that can't be used as given."""


class NotReadyError(HarborNbError):
    """An environment or agent that certainly can't run here and now."""


class JobExistsError(HarborNbError):
    """A job folder of that name is there already, or its job still lives."""


class JobError(HarborNbError):
    """A job that can't be watched, cancelled, resumed or repaired as asked."""


class CredentialsError(HarborNbError):
    """A `.env` file that can't be read or written. Never holds a value."""


class SandboxError(HarborNbError):
    """The local sandbox can't be built, started or used."""


class BuildError(SandboxError):
    """A Dockerfile instruction that is not supported or has failed."""


class ComparisonError(HarborNbError, ValueError):
    """A comparison that can't be made from the given trials."""


class ProviderError(HarborNbError):
    """A vendor's service that did not answer as it should."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Give the end of a message about an unknown word: the nearest known one, or all."""
    names = known if isinstance(known, list) else sorted(known)
    near = difflib.get_close_matches(word, names, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(names)}"
