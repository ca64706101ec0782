from batches_app.admin import serving, work

__all__ = ["serving", "work"]
