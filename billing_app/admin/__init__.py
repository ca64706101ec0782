from billing_app.admin import accounts, keys, ledger, people, prices

__all__ = ["accounts", "keys", "ledger", "people", "prices"]
