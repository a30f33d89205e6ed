"""What the shop sends through Temporal, and how: amounts have a form of their own, and payloads are compressed."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    PayloadCodec,
)


@dataclass(frozen=True)
class Amount:
    """Money, which no float may touch."""

    value: Decimal
    currency: str


class AmountConverter(EncodingPayloadConverter):
    """Writes amounts as `12.30 EUR`."""

    @property
    def encoding(self) -> str:
        """Return the name of the form."""
        return "shop/amount"

    def to_payload(self, value: Any) -> Payload | None:
        """Convert amounts alone."""
        if not isinstance(value, Amount):
            return None
        text = json.dumps(f"{value.value} {value.currency}")
        return Payload(metadata={"encoding": self.encoding.encode()}, data=text.encode())

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Convert them back."""
        value, _, currency = json.loads(payload.data).partition(" ")
        return Amount(Decimal(value), currency)


class ShopConverter(CompositePayloadConverter):
    """Temporal's own converters, after the shop's."""

    def __init__(self) -> None:
        super().__init__(AmountConverter(), *DefaultPayloadConverter.default_encoding_payload_converters)


class Compressing(PayloadCodec):
    """Compresses every payload."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Compress."""
        return [
            Payload(metadata={"encoding": b"shop/zlib"}, data=zlib.compress(each.SerializeToString()))
            for each in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Expand what is compressed."""
        return [
            Payload.FromString(zlib.decompress(each.data))
            if each.metadata.get("encoding") == b"shop/zlib"
            else each
            for each in payloads
        ]


converter = DataConverter(payload_converter_class=ShopConverter, payload_codec=Compressing())
