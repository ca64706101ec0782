from collections.abc import Callable

import pytest

from config.api import ids


@pytest.mark.parametrize(
    ("make", "prefix", "size"),
    [
        (ids.batch_id, "batch_", 16),
        (ids.input_file_id, "file-batch-", 12),
        (ids.output_file_id, "file-batch_output-", 12),
        (ids.upload_id, "upload_", 12),
        (ids.part_id, "part_", 12),
        (ids.request_id, "req_", 16),
    ],
)
def test_ids(make: Callable[[], str], prefix: str, size: int) -> None:
    """F3, B4, C2: what follows the prefix is random, in each of its bits, which are 96 at least."""
    made = [bytes.fromhex(make().removeprefix(prefix)) for _ in range(500)]
    assert {len(digits) for digits in made} == {size}
    numbers = [int.from_bytes(digits, "big") for digits in made]
    for bit in range(8 * size):
        assert 150 < sum(number >> bit & 1 for number in numbers) < 350  # by chance it is not once in 1e16 runs
