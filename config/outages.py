"""What says that the database is away, and may be back in a moment."""

from django.db import InterfaceError, InternalError, OperationalError

# InternalError: a standby is asked, which only reads until it has taken over.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
