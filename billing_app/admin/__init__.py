from billing_app.admin import accounts, keys, ledger, people, prices, trail

__all__ = ["accounts", "keys", "ledger", "people", "prices", "trail"]
