"""Fixed shares of an archive: each video belongs to one shard by the hash of its id."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from tsm_runtime.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` of `count`, counted from 1.

    Raises:
        UsageError: the number is not between 1 and the count.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UsageError(
                f"shard {self.number}/{self.count}: expected 1/{self.count} to {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a shard such as `3/16`.

        Raises:
            UsageError: the text has another form, or a number is out of range.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise UsageError(f"shard {text!r}: expected NUMBER/COUNT, as 3/16")
        return cls(int(match[1]), int(match[2]))

    def holds(self, video_id: str) -> bool:
        """Return whether a video belongs to this shard, which depends only on the id and the count.

        >>> [number for number in (1, 2, 3) if Shard(number, 3).holds("cam1/0001")]
        [1]
        """
        digest = hashlib.sha256(video_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    @property
    def suffix(self) -> str:
        """Suffix in the names of the shard's own files; empty for a single shard."""
        return "" if self.count == 1 else f"-{self.number}-of-{self.count}"
