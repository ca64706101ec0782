from billing_app.models.accounts import Account, APIKey, EnqueuedTokenLimit
from billing_app.models.ledger import Price, UsageEntry

__all__ = ["APIKey", "Account", "EnqueuedTokenLimit", "Price", "UsageEntry"]
