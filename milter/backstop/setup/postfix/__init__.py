"""`backstop setup postfix`: what Postfix must be told, from its running configuration, planned as data.

`reading` looks, `milters`, `maps` and `pitfalls` plan, `command` shows, writes and takes back.
"""

from backstop.setup.postfix.command import add_arguments, run

__all__ = ["add_arguments", "run"]
