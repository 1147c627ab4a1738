"""A meter with a key of its own: two registers that only grow, signed at the end of every interval.

In the field this runs in the meter or in the gateway beside it; here it also replays recorded energy through the same
registers and signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eth_keys.datatypes import PrivateKey

from backend.domain.readings import RegisterReading, SignedReading

from .signing import address_of, sign_reading


class Meter:
    """A signing meter.

    Args:
        key: the meter's private key.
        domain: EIP-712 domain separator its readings are meant for.
        import_register_wh: what the import register shows at the start.
        export_register_wh: what the export register shows at the start.
    """

    def __init__(
        self,
        key: PrivateKey,
        domain: bytes,
        import_register_wh: int = 0,
        export_register_wh: int = 0,
    ) -> None:
        self._key = key
        self._domain = domain
        self.address = address_of(key)
        self.import_register_wh = import_register_wh
        self.export_register_wh = export_register_wh
        self.sequence = 0

    def read(self, interval: int) -> SignedReading:
        """The registers at the end of `interval`, signed."""
        reading = RegisterReading(
            meter=self.address,
            interval=interval,
            import_register_wh=self.import_register_wh,
            export_register_wh=self.export_register_wh,
            sequence=self.sequence,
        )
        self.sequence += 1
        return sign_reading(self._key, self._domain, reading)

    def run(
        self, first_interval: int, import_wh: Sequence[int], export_wh: Sequence[int]
    ) -> Iterator[SignedReading]:
        """Lets energy flow interval by interval and reads after each.

        Args:
            first_interval: index of the first one.
            import_wh: energy taken from the grid in each interval.
            export_wh: energy given to the grid in each.
        """
        for offset, (taken, given) in enumerate(zip(import_wh, export_wh, strict=True)):
            self.import_register_wh += taken
            self.export_register_wh += given
            yield self.read(first_interval + offset)
