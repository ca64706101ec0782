"""Identifiers that leave the service. Each carries at least 96 random bits, so that none can be guessed."""

import secrets


def batch_id() -> str:
    return f"batch_{secrets.token_hex(16)}"  # B4


def input_file_id() -> str:
    return f"file-batch-{secrets.token_hex(12)}"  # F3


def output_file_id() -> str:
    return f"file-batch_output-{secrets.token_hex(12)}"  # F3


def upload_id() -> str:
    return f"upload_{secrets.token_hex(12)}"  # F10


def part_id() -> str:
    return f"part_{secrets.token_hex(12)}"  # F10


def request_id() -> str:
    return f"req_{secrets.token_hex(16)}"  # C2
