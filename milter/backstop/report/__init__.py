"""The reader of reports: what a message is, and which message of ours it returns.

It knows the reports of RFC 3464, 6522 and 6533, receipts (RFC 8098), abuse reports (RFC 5965), automatic
answers (RFC 3834), and the shapes reports had before and beside them. Everything it reads was written by
a stranger: it reads within limits, in linear time, and raises on nothing. Python's `email` package is
quadratic and recursive on hostile input and therefore not used.
"""

from backstop.report.model import Kind, Mark, Report, ReportedRecipient, Returned
from backstop.report.reading import read
from backstop.report.returned import id_of

__all__ = ["Kind", "Mark", "Report", "ReportedRecipient", "Returned", "id_of", "read"]
