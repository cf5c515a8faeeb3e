"""Which rows are trained on, and what their columns mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.harden.steps import ANY, inputs_of, step

PART, READ = step("part"), step("preprocess")


def apart(folder: Path, data: pd.DataFrame, held_out: pd.DataFrame, seed: int = 7, **about: Any) -> Any:
    files = [str(folder / name) for name in ("data", "held", "train", "test")]
    data.to_parquet(files[0], index=False)
    held_out.to_parquet(files[1], index=False)
    told = PART["set_apart"](files[0], files[1], {"label": "label", **about}, 0.2, seed, files[2], files[3])
    train, test = pd.read_parquet(files[2]), pd.read_parquet(files[3])
    assert (told["train"], told["test"], told["left_out"]) == (len(train), len(test), len(data) - len(train))
    return train, test, told["found"]


def rows(folder: Path, frame: pd.DataFrame, domain: Any = ANY, inputs: Any = None) -> Any:
    frame.to_parquet(folder / "rows", index=False)
    return READ["read_rows"](str(folder / "rows"), "label", domain, inputs or inputs_of(-1))


def numbered(count: int) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(count) / count, "label": np.arange(count) % 4 // 3})


def test_a_share_of_each_class_is_held_out_by_seed(tmp_path):
    whole = numbered(400)
    train, test, found = apart(tmp_path, whole, whole)
    assert found == 80
    assert (len(train), len(test), int(test["label"].sum())) == (320, 80, 20)
    assert sorted([*train["a"], *test["a"]]) == sorted(whole["a"])
    again, other = apart(tmp_path, whole, whole)[1], apart(tmp_path, whole, whole, seed=8)[1]
    assert test.equals(again)
    assert not test.equals(other)


def test_no_row_that_is_judged_by_is_trained_on(tmp_path):
    whole = pd.concat([numbered(100), numbered(100)], ignore_index=True)  # each row twice
    held = numbered(100).iloc[10:30].astype({"a": "float32"}).assign(more="x")
    train, test, found = apart(tmp_path, whole, held, taken_from=True)
    assert (len(train), found) == (2 * 80, 20)
    assert not set(train["a"].astype("float32")) & set(held["a"])
    assert test.equals(held.reset_index(drop=True)), "they are judged by as they are"


def test_rows_of_lists_are_compared_too(tmp_path):
    lists = pd.DataFrame({"x": [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], "label": ["a", "b", "a"]})
    train, _, _ = apart(tmp_path, lists, lists.iloc[:1])
    assert [list(x) for x in train["x"]] == [[1.0, 0.0], [0.5, 0.5]]


def test_rows_that_cannot_be_found_where_they_came_from_are_not_trained_on(tmp_path):
    whole = numbered(100)
    scaled = whole.iloc[:20].assign(a=lambda t: 3 * t["a"] - 5)
    with pytest.raises(
        ValueError, match=r"none of the 20 rows to judge by is found among the 100 .* RUN/OUTPUT"
    ):
        apart(tmp_path, whole, scaled, taken_from=True)
    train, _, found = apart(tmp_path, whole, scaled)
    assert (len(train), found) == (100, 0), "rows of elsewhere: none of them has to be there"
    some = pd.concat([whole.iloc[:1], scaled])
    with pytest.raises(ValueError, match=r"1 of the 21 rows to judge by is found .* the others"):
        apart(tmp_path, whole, some, taken_from=True)


def test_rows_that_are_there_twice_are_not_on_both_sides_of_a_share(tmp_path):
    whole = pd.concat([numbered(100), numbered(100)], ignore_index=True)
    train, test, found = apart(tmp_path, whole, whole)
    assert found == len(test) == 40
    assert not set(train["a"]) & set(test["a"])


def test_classes_too_small_to_hold_any_out_are_refused(tmp_path):
    whole = pd.DataFrame({"a": [0.1, 0.2, 0.3], "label": [0, 1, 2]})
    with pytest.raises(ValueError, match="no row could be set apart to judge by: 20% of each class"):
        apart(tmp_path, whole, whole)


def test_what_leaves_nothing_to_train_on_is_refused(tmp_path):
    whole = numbered(20)
    with pytest.raises(ValueError, match="no row is left to train on"):
        apart(tmp_path, whole, pd.concat([whole, whole]))
    with pytest.raises(ValueError, match="no column 'label'; the columns are a"):
        apart(tmp_path, whole[["a"]], whole)
    with pytest.raises(ValueError, match="held out have no column"):
        apart(tmp_path, whole, whole[["a"]])


def test_a_tables_columns_have_each_their_range(tmp_path):
    frame = pd.DataFrame(
        {
            "age": [20, 60, 40],
            "born": [1, 0, 1],
            "pay": [0.0, 10.0, 5.0],
            "who": ["x", "y", "z"],
            "label": list("bab"),
        }
    )
    fixed = {"low": 0, "high": 1, "scale": 0, "whole": True, "fixed": True, "group": "", "way": "any"}
    scaled = fixed | {"low": -10, "high": 90, "scale": 2.5, "whole": False, "fixed": False, "way": "down"}
    domain = {**ANY, "tabular": True, "columns": {"born": fixed, "pay": scaled}, "apart": ["who"]}
    found = rows(tmp_path, frame, domain, inputs_of(3))
    assert found.x.dtype == np.float32
    assert (list(found.low), list(found.high)) == ([20, 0, -10], [60, 1, 90])
    assert list(found.reach) == [40, 0, 2.5], "an eps of 1 is the range, nothing, or the scale"
    assert list(found.whole) == [True, True, False]
    assert (list(found.up), list(found.down), found.groups) == ([False] * 3, [False, False, True], [])
    assert (list(found.classes), list(found.y)) == (["a", "b"], [1, 0, 1])


def test_columns_are_the_ones_that_the_model_names(tmp_path):
    frame = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4], "c": [0.5, 0.6], "label": [1.0, 0.0]})
    two = [*inputs_of(1, name="c"), *inputs_of(1, name="a")]
    found = rows(tmp_path, frame, inputs=two)
    assert found.x.tolist() == np.array([[0.5, 0.1], [0.6, 0.2]], np.float32).tolist()
    assert found.classes.tolist() == [0, 1]
    assert found.classes.dtype == np.int64
    with pytest.raises(ValueError, match="input 'd', and the rows have no such column"):
        rows(tmp_path, frame, inputs=[*two, *inputs_of(1, name="d")])


def test_a_column_of_lists_holds_all_features(tmp_path):
    frame = pd.DataFrame({"x": [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]], "label": [0, 1]})
    assert rows(tmp_path, frame).x.shape == (2, 3)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([0.1, np.nan], "no finite numbers"),
        ([0.1, 1.5], "feature 0 has 1.5, outside of 0 to 1"),
        (["a", "b"], "holds no numbers"),
    ],
)
def test_what_is_no_number_in_range_is_refused(tmp_path, column, said):
    with pytest.raises(ValueError, match=said):
        rows(tmp_path, pd.DataFrame({"a": column, "b": [0.1, 0.2], "label": [0, 1]}), inputs=inputs_of(2))


def test_one_class_is_nothing_to_learn(tmp_path):
    with pytest.raises(ValueError, match="all rows have the label 1"):
        rows(tmp_path, pd.DataFrame({"a": [0.1, 0.2], "label": [1, 1]}))
