"""One pass of jupyterhub-idle-culler, as its own loop would make it; run by the peers' own Python."""

import asyncio
import logging
import sys

from jupyterhub_idle_culler import cull_idle

if __name__ == "__main__":
    asyncio.run(cull_idle(sys.argv[1], "token", inactive_limit=7 * 86_400, logger=logging.getLogger("culler")))
