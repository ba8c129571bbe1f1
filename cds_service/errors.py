"""Every deliberate error of the service, in one tree.

CdsError
├── ContentError           something under cards/ is wrong; carries file and line, all of them at once
├── SettingsError          the environment asks for something unsafe or impossible
├── InputError             a file given on the command line cannot be used
├── ClientsUnavailable     a place where clients are registered cannot be read now
├── SignOffRefused         this person may not sign this rule, or not again
└── RequestError           a caller's request is refused; becomes an OperationOutcome
    ├── MalformedJson          400 json.*            the bytes are not acceptable JSON
    ├── InvalidRequest         400 request.*         JSON, but not a CDS Hooks request we can answer
    ├── WrongPatient           400 patient.mismatch  data of another patient came along
    ├── Unauthenticated        401 (no body)         no good token came along
    ├── ForeignForm            400 desk.*            a form that none of our pages sent
    ├── NotLoggedIn            401 desk.login        a page for people who are known
    ├── NotAllowed             403 desk.role         a page for people of another role
    ├── UnknownService         404 service.unknown
    ├── MethodNotAllowed       405 method
    ├── DataMissing            412 data.missing      required FHIR data was not supplied
    ├── TooLarge               413 size
    ├── UnsupportedMedia       415 media-type
    ├── TooManyCalls           429 rate.*            more calls than one address or one client may make
    ├── StoreUnavailable       503 store.unavailable, rules.unknown  what the database has to take or tell first
    └── Overloaded             503 overloaded        no thread is to be had in which the call could wait
"""

from __future__ import annotations

from typing import NamedTuple


class CdsError(Exception):
    """Root of all deliberate errors."""


class Mistake(NamedTuple):
    """One thing wrong in a content file: where it is and what to do."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class ContentError(CdsError):
    """The knowledge pack cannot be used; every mistake found is listed."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


class SettingsError(CdsError):
    """The settings are refused; the message names the variable and the cure."""


class InputError(CdsError):
    """A file given to a command cannot be used; the message names the file and the cure."""


class ClientsUnavailable(CdsError):
    """A place where clients are registered cannot be read now; the message names neither server nor user."""


class SignOffRefused(CdsError):
    """A signature is refused; the message says why and who could sign."""


class RequestError(CdsError):
    """A request is refused.

    ``code`` is stable and documented in docs/errors.md; ``expression`` is the element path. The text is
    fixed by us and never carries a value from the request.
    """

    status = 400
    issue_type = "invalid"

    def __init__(self, code: str, text: str, expression: str | None = None) -> None:
        self.code = code
        self.text = text
        self.expression = expression
        super().__init__(f"{code}: {text}")


class MalformedJson(RequestError):
    """The body is not JSON that we accept."""

    issue_type = "structure"


class InvalidRequest(RequestError):
    """The body is JSON but not an acceptable CDS Hooks request."""


class WrongPatient(RequestError):
    """The request holds data of somebody other than the patient of its context."""

    issue_type = "business-rule"


class Unauthenticated(RequestError):
    """No good token came along. The answer is empty whatever the cause (CDS Hooks best practices, JWT)."""

    status = 401
    issue_type = "login"

    def __init__(self) -> None:
        super().__init__("unauthenticated", "Send a valid token.")


class ForeignForm(RequestError):
    """A form came from elsewhere than our own page, or from a session that is over. Nothing was done."""

    issue_type = "security"


class NotLoggedIn(RequestError):
    """The page is for people who are known, and this one is not."""

    status = 401
    issue_type = "login"


class NotAllowed(RequestError):
    """The person is known, and their role does not include this."""

    status = 403
    issue_type = "forbidden"


class UnknownService(RequestError):
    """No service has this id."""

    status = 404
    issue_type = "not-found"


class MethodNotAllowed(RequestError):
    """The resource exists but not for this method."""

    status = 405
    issue_type = "not-supported"


class DataMissing(RequestError):
    """Required FHIR data was not supplied (CDS Hooks: 412 SHALL)."""

    status = 412
    issue_type = "required"


class TooLarge(RequestError):
    """The body is larger than we read."""

    status = 413
    issue_type = "too-long"


class UnsupportedMedia(RequestError):
    """The body is not sent as plain JSON."""

    status = 415
    issue_type = "not-supported"


class TooManyCalls(RequestError):
    """One address or one client calls more often than it may. ``wait``: seconds until it may again, at least 1."""

    status = 429
    issue_type = "throttled"

    def __init__(self, code: str, text: str, wait: int) -> None:
        super().__init__(code, text)
        self.wait = wait


class StoreUnavailable(RequestError):
    """What the answer needs of the database cannot be read or written now; nothing of the request was kept."""

    status = 503
    issue_type = "transient"


class Overloaded(RequestError):
    """The machine gives no thread in which the call could wait; nothing of it was looked at."""

    status = 503
    issue_type = "throttled"
