"""The site's receiver of notices: posts what it takes, again where that may help; what is told lives in `notices`."""

from collections.abc import Callable

from core.clock import RunClock
from core.leonardo.calling import FIRST_WAIT, TRIES, Credentials, token_of, user_agent
from core.leonardo.errors import ErrorKind, LeonardoError, asked_to_wait, error_from_answer
from core.leonardo.exchange import Connections, Question, Wire
from core.rules.notices import NoticePolicy

MAY_PASS = (ErrorKind.UNAVAILABLE, ErrorKind.THROTTLED)
BATCH = "application/cloudevents-batch+json"


async def _leaving() -> None:
    """Nothing keeps a notice back: one that comes twice is known by its id."""


class Receiver:
    """Behind one URL; close it in the end."""

    def __init__(
        self,
        url: str,
        *,
        clock: RunClock,
        credentials: Credentials | None,
        timeout: float,
        count: int,
        connect: Callable[[], Wire] | None = None,
    ) -> None:
        """Without `connect`, over TCP. Raises ValueError where the URL cannot be asked."""
        self._clock = clock
        self._credentials = credentials
        self._timeout = timeout
        self._path = "/" if url.endswith("/") else ""
        self._connections = Connections(
            url, clock=clock, timeout=timeout, count=count, methods={"POST"}, connect=connect
        )

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def post(self, batch: bytes) -> None:
        """Raises LeonardoError, OutOfTimeError."""
        for number in range(TRIES):
            error, asked = await self._send(batch)
            if error is None:
                return
            if error.kind not in MAY_PASS or number == TRIES - 1:
                raise error
            await self._clock.sleep(max(asked, self._timeout * FIRST_WAIT * 2**number))

    async def _send(self, batch: bytes) -> tuple[LeonardoError | None, float]:
        """What went wrong, and how many seconds it asks to wait."""
        try:
            token = await token_of(self._credentials, self._clock, self._timeout)
            headers = {"Content-Type": BATCH, "User-Agent": user_agent(NoticePolicy.job)}
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            question = Question("POST", self._path, headers, _leaving, batch)
            async with self._connections.exchange(question, whole=True) as answer:
                if answer.is_success:
                    return None, 0
                asked = asked_to_wait(answer.status, answer.headers.get("Retry-After", ""), self._clock.wall())
                return error_from_answer(answer.status, answer.body, token=token), asked or 0
        except LeonardoError as error:
            return error, 0
