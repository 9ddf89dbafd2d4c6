"""One run over what is due: each owner is told once of each runtime; when, and of what, is a rule's matter."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from core.clock import OutOfTimeError
from core.leonardo.errors import ErrorKind, LeonardoError
from core.records import events
from core.records.outcome import Severity
from core.records.writer import RecordNotKeptError
from core.rules.notices import Notice, NoticePolicy
from core.run.account import Account
from core.run.concurrently import each
from core.run.receiver import Receiver
from core.run.running import Running

SENTENCES = {
    events.NoticeRequested: "about to tell",
    events.NoticeSent: "told",
    events.NoticeFailed: "could not tell",
}


class Notifying:
    """One run over those who are to be told."""

    def __init__(self, running: Running, account: Account, policy: NoticePolicy, receiver: Receiver | None) -> None:
        """Without a receiver nobody is told: it is a rehearsal."""
        self._running = running
        self._account = account
        self._policy = policy
        self._receiver = receiver

    async def run(self, notices: Iterable[Notice]) -> None:
        by_creator: defaultdict[str | None, list[Notice]] = defaultdict(list)
        for notice in notices:
            by_creator[notice.creator].append(notice)
        mine = set(self._running.task.share(creator or "" for creator in by_creator))
        told = [of for creator, of in by_creator.items() if (creator or "") in mine]
        await each(told, self._running.settings.write_concurrency, self._tell)

    async def _tell(self, notices: list[Notice]) -> None:
        """One owner of all that is due of theirs: on record before it leaves, and what became of it after."""
        now = self._running.clock.now()
        told = [replace(of, not_before=self._policy.not_before(of.due_at, now)) for of in notices]
        self._note(events.NoticeRequested, told)
        if self._receiver is None:
            return
        try:
            await self._running.audit.commit()
            await self._receiver.post(msgspec.json.encode([self._event(of, now) for of in told]))
        except RecordNotKeptError:  # the log remembers the loss, for the exit code
            error = LeonardoError(ErrorKind.UNAVAILABLE, "not told, since a record could not be kept")
        except OutOfTimeError:
            self._account.cut_short()
            error = LeonardoError(ErrorKind.UNAVAILABLE, "no time was left")
        except LeonardoError as failed:
            error = failed
        else:
            self._note(events.NoticeSent, told)
            return
        self._note(events.NoticeFailed, told, error=events.error_detail(error))

    def _note(self, kind: type[events.Notice], told: Iterable[Notice], **beside: Any) -> None:
        """On record, of each."""
        failed = kind is events.NoticeFailed
        for of in told:
            record = kind(
                severity=Severity.ERROR if failed else Severity.NOTICE,
                message=f"{SENTENCES[kind]} {of.creator or 'nobody by name'}: {of}",
                notice_id=self._id(of),
                **{name: value for name, value in asdict(of).items() if name != "disk"},
                **beside,
            )
            self._account.told(record, str(kind.__struct_config__.tag), failed=failed)

    def _event(self, of: Notice, now: datetime) -> dict[str, object]:
        """As CloudEvents 1.0 has it in JSON."""
        environment = self._running.settings.environment
        return {
            "specversion": "1.0",
            "id": self._id(of),
            "source": f"/leo-lifecycle/{quote(environment, safe='')}",
            "type": "leo-lifecycle.deletion-notice.v1",
            "subject": f"{of.project}/{of.name}",
            "time": now,
            "datacontenttype": "application/json",
            "data": {**asdict(of), "environment": environment, "text": str(of)},
        }

    def _id(self, of: Notice) -> str:
        """The same for an incarnation whenever it is told of: a receiver tells its owner once."""
        return f"{self._running.settings.environment}-{of.runtime_id}"
