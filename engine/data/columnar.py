"""Rows of parquet and Arrow files, few at once: dictionary encoding lets a small file unpack to very large rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.data.files import data_error

MAX_ROW_GROUP_BYTES = 4 * 1024 * 1024 * 1024
BATCH_ROWS = 64


def parquet_values(path: Path, file: BinaryIO) -> Iterator[Any]:
    """Each row as a dict. Raises EngineError(DATA) for a damaged file or a row group that unpacks beyond 4 GiB."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    for group in range(table.metadata.num_row_groups):
        if table.metadata.row_group(group).total_byte_size > MAX_ROW_GROUP_BYTES:
            raise data_error(
                f"row group {group + 1} unpacks to more than 4 GiB", where=str(path), hint="use smaller ones"
            )
    for batch in table.iter_batches(batch_size=BATCH_ROWS):
        yield from batch.to_pylist()


def arrow_values(path: Path, file: BinaryIO) -> Iterator[Any]:
    """Each row as a dict, of an Arrow file or of a stream as `datasets` writes it."""
    import pyarrow

    head = file.read(6)
    file.seek(0)
    if head == b"ARROW1":
        reader = pyarrow.ipc.open_file(file)
        batches: Iterator[Any] = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        batches = iter(pyarrow.ipc.open_stream(file))
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from batch.slice(start, BATCH_ROWS).to_pylist()
