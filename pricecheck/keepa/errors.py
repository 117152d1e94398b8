"""What can go wrong with a call to Keepa: a type for each way, that says whether to try again.

Statuses and error bodies are those of Keepa's own Java client (KeepaAPI, RequestError). Each
error class answers three questions, so that no caller has to read a status code:
`retry_after_ms` (None: the same request will fail again), `paid` (may tokens have gone although
no envelope came back?), and `smaller` (is a smaller request worth trying?). What a server says
may echo the request, so every message is redacted.
"""

from __future__ import annotations

import os
from typing import ClassVar

from pricecheck.errors import PricecheckError
from pricecheck.keepa.wire import Envelope, Fault
from pricecheck.logs import excerpt, redacted

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_MOST_SAID = 500


class KeepaError(PricecheckError):
    """A call to Keepa that brought no result.

    `envelope` holds the token figures of the answer, where it brought credible ones.
    """

    exit_code = os.EX_UNAVAILABLE
    default_retry_ms: ClassVar[int | None] = None
    paid: ClassVar[bool] = False
    smaller: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        status: int | None = None,
        envelope: Envelope | None = None,
    ) -> None:
        super().__init__(redacted(message), remedy=remedy)
        self.status = status
        self.envelope = envelope

    @property
    def retry_after_ms(self) -> int | None:
        """How long to wait before the same request, or None when it can only fail again."""
        return self.default_retry_ms

    @property
    def was_charged(self) -> bool:
        """Whether tokens went for it: by its own figures, or by all that is known of its kind."""
        return self.envelope.tokens_consumed > 0 if self.envelope is not None else self.paid


class UnreachableError(KeepaError):
    """No request reached Keepa: no route, no name, connection refused, no TLS, led elsewhere."""

    default_retry_ms = 5_000


class TimedOutError(KeepaError):
    """A request was sent and no whole answer came: time-out, or the connection was cut.

    Keepa has usually charged for it all the same.
    """

    default_retry_ms = 5_000
    paid = True
    smaller = True


class BadAnswerError(KeepaError):
    """The answer can't be read: cut short, not JSON, not gzip, or of another shape."""

    default_retry_ms = 5_000
    paid = True
    smaller = True


class RejectedError(KeepaError):
    """400, or an error object in the answer: Keepa does not take this request."""

    smaller = True


class KeyRejectedError(KeepaError):
    """Keepa does not know the API key. Somebody may be about to renew it: try each hour."""

    exit_code = os.EX_NOPERM
    default_retry_ms = _HOUR_MS


class PaymentRequiredError(KeepaError):
    """402: the subscription has ended. Somebody may be about to pay: try each hour."""

    exit_code = os.EX_NOPERM
    default_retry_ms = _HOUR_MS


class NotInPlanError(KeepaError):
    """404: this key's plan has no such call. Plans change: try each day."""

    default_retry_ms = 24 * _HOUR_MS


class MethodNotAllowedError(KeepaError):
    """405: the call is made in a way Keepa does not know; a newer pricecheck is needed."""

    default_retry_ms = 24 * _HOUR_MS


class NotEnoughTokensError(KeepaError):
    """429: the bucket is empty; the envelope says until when."""

    @property
    def retry_after_ms(self) -> int:
        """Until the next refill, and 100 ms more, as Keepa's own client waits."""
        told = self.envelope.refill_in_ms if self.envelope else _MINUTE_MS
        return min(max(told, 0), _HOUR_MS) + 100


class ServerError(KeepaError):
    """5xx, or a status that Keepa does not document: its side is out of order.

    Perhaps one product of many makes it stumble, so a smaller request is worth trying.
    """

    default_retry_ms = 30_000
    paid = True
    smaller = True


def of_answer(status: int, fault: Fault | None, envelope: Envelope | None) -> KeepaError | None:
    """Return the error that a status and an answer's error object amount to, or None for a success.

    `envelope` is the answer's if it had one. Its token fields are all 0 with a wrong key (seen
    live): those are not the bucket's state, so they are not passed on.
    """
    if status == 200 and fault is None:
        return None
    said = f"Keepa answered {status}{_words(fault)}"
    if envelope is not None and envelope.is_blank:
        if status in (200, 400):
            remedy = "check the API key at keepa.com/#!api"
            return KeyRejectedError(said, remedy=remedy, status=status)
        envelope = None
    kind, remedy = _BY_STATUS.get(status, _ELSEWHERE if 300 <= status < 400 else _TROUBLE)
    if fault is not None:
        kind, remedy = _BY_FAULT.get(fault.type or "", (kind, remedy))
    return kind(said, remedy=remedy, status=status, envelope=envelope)


def _words(fault: Fault | None) -> str:
    """Return what an error object says, to be put behind a status."""
    if fault is None:
        return ""
    words = f" {fault.type}" if fault.type else ""
    words += f": {fault.message}" if fault.message else ""
    words += f" ({fault.details})" if fault.details else ""
    return excerpt(words, _MOST_SAID)


_REJECTED = (RejectedError, "the request itself is refused; see the message")
_EMPTY = (NotEnoughTokensError, "the daemon waits for the refill")
_UNPAID = (PaymentRequiredError, "renew the subscription at keepa.com/#!api")
_TROUBLE = (ServerError, "Keepa's side; the daemon tries again")
_ELSEWHERE = (
    UnreachableError,
    "that is a redirection, and Keepa sends none: check keepa.url, and whether this network "
    "wants you to sign in",
)
_BY_STATUS: dict[int, tuple[type[KeepaError], str]] = {
    200: _REJECTED,
    400: _REJECTED,
    402: _UNPAID,
    404: (NotInPlanError, "this key's plan does not include the call"),
    405: (MethodNotAllowedError, "update pricecheck"),
    429: _EMPTY,
}
# The same facts said in the body, which also happens under status 200. Only invalidParameter has
# been seen; these follow the names of the statuses in Keepa's Java client.
_BY_FAULT: dict[str, tuple[type[KeepaError], str]] = {
    "notEnoughToken": _EMPTY,
    "paymentRequired": _UNPAID,
    "internalServerError": _TROUBLE,
    "serviceUnavailable": _TROUBLE,
}
