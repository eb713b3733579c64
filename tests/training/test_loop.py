"""The order of rows is fixed, fair and cheap to pad; only whole checkpoints are resumed from."""

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from saro.training.loop import last_checkpoint, row_order

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=80)


@given(lengths=LENGTHS, batch=st.integers(1, 9), epochs=st.integers(1, 3), seed=st.integers(0, 99))
@example(lengths=[10, 20, 30], batch=8, epochs=1, seed=0)  # fewer rows than a batch
def test_every_row_once_an_epoch(lengths, batch, epochs, seed):
    order = row_order(lengths, batch, epochs, seed)
    for epoch in range(epochs):
        passed = order[epoch * len(lengths) : (epoch + 1) * len(lengths)]
        assert sorted(passed) == list(range(len(lengths)))
    assert len(order) == epochs * len(lengths)


@given(lengths=LENGTHS, batch=st.integers(1, 9), epochs=st.floats(0.1, 3), seed=st.integers(0, 99))
def test_a_fraction_of_an_epoch_is_that_share_of_distinct_rows(lengths, batch, epochs, seed):
    order = row_order(lengths, batch, epochs, seed)
    if epochs * len(lengths) >= batch:
        assert len(order) == round(epochs * len(lengths))
    counts = Counter(order)
    assert max(counts.values()) - min(counts.get(row, 0) for row in range(len(lengths))) <= 1


def test_order_is_made_by_the_seed():
    lengths = [7 * row % 31 for row in range(60)]
    assert row_order(lengths, 4, 2, 1) == row_order(lengths, 4, 2, 1)
    assert row_order(lengths, 4, 2, 1) != row_order(lengths, 4, 2, 2)
    assert row_order(lengths, 4, 1, 1) != sorted(range(60), key=lambda row: lengths[row])


def _padding(order, lengths, batch):
    """Share of padding in batches cut from ``order`` as the Trainer cuts them."""
    batches = [[lengths[row] for row in order[start : start + batch]] for start in range(0, len(order), batch)]
    return 1 - sum(map(sum, batches)) / sum(len(rows) * max(rows) for rows in batches)


def test_every_epoch_is_padded_as_little_as_the_first():
    lengths = [10 + 37 * row % 491 for row in range(60)]  # 60 is no multiple of 8
    first = _padding(row_order(lengths, 8, 1, 0), lengths, 8)
    later = _padding(row_order(lengths, 8, 4, 0)[64:], lengths, 8)
    assert first < 0.15
    assert later < 1.5 * first


def _checkpoint(folder, step, complete):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_text("w")
    if complete:
        (checkpoint / "complete").write_text("{}")
    return checkpoint


def test_the_newest_whole_checkpoint_is_found_and_broken_ones_go(tmp_path):
    _checkpoint(tmp_path, 8, complete=True)
    newest = _checkpoint(tmp_path, 10, complete=True)
    broken = _checkpoint(tmp_path, 12, complete=False)
    assert last_checkpoint(tmp_path) == newest
    assert not broken.exists()
    assert (newest / "model.safetensors").is_file()


def test_no_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path / "absent") is None
    broken = _checkpoint(tmp_path, 2, complete=False)
    assert last_checkpoint(tmp_path) is None
    assert not broken.exists()
