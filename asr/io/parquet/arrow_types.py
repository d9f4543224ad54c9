"""Arrow types by how they lie in memory: of arrays that a stranger made that is checked, and not the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the Arrow type of the same layout whose values are all allowed, to ``view`` an array as before checks.

    A text that is no UTF-8, a time behind midnight or a number with too many digits is its row's fault: what matters
    here is that offsets and indices lead nowhere else.
    """
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    nested = _nested(kind)
    if nested is not None:
        return nested
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return pa.binary(kind.bit_width // 8)
    return _of_texts().get(kind, kind)


def _of_texts() -> dict[pa.DataType, pa.DataType]:
    import pyarrow as pa

    return {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def _nested(kind: pa.DataType) -> pa.DataType | None:
    """Return a type that has others inside with these made plain; None for one that has none."""
    import pyarrow as pa

    make: dict[type, Callable[[], pa.DataType]] = {
        pa.StructType: lambda: pa.struct([pa.field(each.name, plain(each.type)) for each in kind]),
        pa.MapType: lambda: pa.map_(plain(kind.key_type), plain(kind.item_type)),
        pa.FixedSizeListType: lambda: pa.list_(plain(kind.value_type), kind.list_size),
        pa.LargeListType: lambda: pa.large_list(plain(kind.value_type)),
        pa.ListType: lambda: pa.list_(plain(kind.value_type)),
        pa.ListViewType: lambda: pa.list_view(plain(kind.value_type)),
        pa.LargeListViewType: lambda: pa.large_list_view(plain(kind.value_type)),
        pa.DictionaryType: lambda: pa.dictionary(kind.index_type, plain(kind.value_type), kind.ordered),
    }
    return make[type(kind)]() if type(kind) in make else None


def bytes_of(values: pa.Array) -> pa.Array:
    """Return the bytes of an Arrow array of audio: the array itself, or its structs' ``bytes``."""
    import pyarrow.compute as pc

    return pc.struct_field(values, "bytes") if values.type.num_fields > 0 else values
