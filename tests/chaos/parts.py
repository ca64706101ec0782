"""Files in parts, by the SDK's `client.uploads`: one after the other or at once, and not always to the end."""

import hashlib
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from openai import OpenAI

MOST = 5


@dataclass(slots=True)
class InParts:
    """`begun`: the uploads' ids. `ends`: how many of them ended how."""

    client: OpenAI
    chance: random.Random
    begun: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    def send(self, filename: str, data: bytes) -> str:
        """Returns the id of the file that is made of them."""
        pieces = self._cut(data)
        order, at_once = self.chance.sample(range(len(pieces)), len(pieces)), self.chance.choice([1, len(pieces)])
        upload = self._begin(filename, data)
        with ThreadPoolExecutor(at_once) as hands:
            sent = hands.map(lambda number: self._add(upload, pieces[number]), order)
            part_ids = [part_id for _, part_id in sorted(zip(order, sent, strict=True))]
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        file = self.client.uploads.complete(upload, part_ids=part_ids, md5=md5).file
        assert file is not None
        self.ends["completed"] += 1
        return file.id

    def give_up(self, filename: str, data: bytes) -> None:
        """Some of them, and no more. Half of the time it is said that no more will come."""
        pieces, is_said = self._cut(data), self.chance.random() < 0.5
        sent = pieces[: self.chance.randint(0, len(pieces))]
        upload = self._begin(filename, data)
        for piece in sent:
            self._add(upload, piece)
        if is_said:
            self.client.uploads.cancel(upload)
        self.ends["cancelled" if is_said else "left"] += 1

    def _cut(self, data: bytes) -> list[bytes]:
        """Anywhere: a part is no line."""
        cuts = sorted(self.chance.sample(range(1, len(data)), self.chance.randrange(MOST)))
        return [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]

    def _begin(self, filename: str, data: bytes) -> str:
        upload = self.client.uploads.create(
            filename=filename, bytes=len(data), mime_type="application/jsonl", purpose="batch"
        )
        self.begun.append(upload.id)
        return upload.id

    def _add(self, upload: str, piece: bytes) -> str:
        return self.client.uploads.parts.create(upload, data=piece).id
