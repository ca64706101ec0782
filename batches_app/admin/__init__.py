from batches_app.admin import serving

__all__ = ["serving"]
