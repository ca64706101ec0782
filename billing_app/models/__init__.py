from billing_app.models.accounts import Account, APIKey, EnqueuedTokenLimit, RateLimit
from billing_app.models.audit import AuditEntry
from billing_app.models.ledger import (
    Balance,
    BudgetAlert,
    ClosedMonth,
    DailyUsage,
    Hold,
    LedgerEntry,
    MonthlySpend,
    Price,
)
from billing_app.models.running_counts import RunningCount
from billing_app.models.storage import Reservation, StorageUse

__all__ = [
    "APIKey",
    "Account",
    "AuditEntry",
    "Balance",
    "BudgetAlert",
    "ClosedMonth",
    "DailyUsage",
    "EnqueuedTokenLimit",
    "Hold",
    "LedgerEntry",
    "MonthlySpend",
    "Price",
    "RateLimit",
    "Reservation",
    "RunningCount",
    "StorageUse",
]
