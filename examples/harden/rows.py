"""Rows for the steps of ``pipeline.py``: which are trained on, and what their columns mean.

Every function is copied into the steps that use it (``additional_funcs``), so each imports what it needs.
"""


def quiet():
    """Leave the log to what matters, and the other steps their cores."""
    import logging
    import os
    import warnings

    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    threadpool_limits(1)


def set_apart(data: str, held_out: str, about: dict, share: float, seed: int, train: str, test: str) -> dict:
    """Write Parquet files of rows to train on and to judge by; how many there are of each, and ``left_out``.

    ``held_out`` are rows to judge by as they are: what of ``data`` is equal to one of them (in the columns
    that both have, as float32) is left out of training. Where both files are the same, a ``share`` of each
    class is held out, by ``seed``, and what is equal to one of these is left out too. ValueError where
    nothing is left to train on or to judge by, and where a row of ``held_out`` is not found in the table that
    they were taken from (``about["taken_from"]``): then it is there in another form, and would be trained on.
    """
    import shutil
    from pathlib import Path

    import numpy as np
    import pandas as pd

    table, label = pd.read_parquet(data), about["label"]
    if label not in table.columns:
        raise ValueError(f"there is no column {label!r}; the columns are {', '.join(table.columns[:20])}")
    if Path(data).read_bytes() == Path(held_out).read_bytes():
        order = np.random.default_rng(seed).permutation(len(table))
        place = table.iloc[order].groupby(label, sort=False).cumcount().to_numpy()
        size = table.iloc[order].groupby(label, sort=False)[label].transform("size").to_numpy()
        apart = np.sort(order[place < np.round(share * size)])
        judged, found, prints = table.iloc[apart], len(apart), fingerprints(table)
        rest = np.flatnonzero(~np.isin(prints, prints[apart]))  # nor rows that are there twice
        judged.to_parquet(test, index=False)
    else:
        judged = pd.read_parquet(held_out)
        shared = [name for name in table.columns if name in judged.columns]
        if label not in shared:
            raise ValueError(f"the rows that were held out have no column {label!r}")
        mine, theirs = fingerprints(table[shared]), fingerprints(judged[shared])
        rest, found = np.flatnonzero(~np.isin(mine, theirs)), int(np.isin(theirs, mine).sum())
        shutil.copyfile(held_out, test)
    told = {"train": len(rest), "test": len(judged), "found": found, "left_out": len(table) - len(rest)}
    if not told["test"]:
        raise ValueError(f"no row could be set apart to judge by: {share:.0%} of each class is less than one")
    if not told["train"]:
        raise ValueError("no row is left to train on: all of them are among the rows to judge by")
    if found < len(judged) and about.get("taken_from"):
        some, others = (f"{found} of the", "the others") if found else ("none of the", "them")
        verb = "are" if found > 1 else "is"
        raise ValueError(
            f"{some} {len(judged)} rows to judge by {verb} found among the {len(table)} that they were taken"
            f" from: the run changed {others} (scaled, say), and so they cannot be set apart. Train on what"
            f" that run put out for training: --data RUN/OUTPUT"
        )
    table.iloc[rest].to_parquet(train, index=False)
    return told


def fingerprints(table):
    """A number for each row, uint64 (n,), equal for rows that are equal; numbers count as float32."""
    import pandas as pd

    def plain(column):
        if pd.api.types.is_numeric_dtype(column):
            return column.astype("float32") + 0.0  # -0.0 and 0.0 are one number
        return column.map(lambda value: str(value.tolist()) if hasattr(value, "tolist") else str(value))

    return pd.util.hash_pandas_object(table.apply(plain), index=False).to_numpy()


def chosen_columns(table, label: str, domain: dict, inputs: list) -> list:
    """The columns that are features, in the order in which the gate takes them."""
    import math

    import pandas as pd

    names = [name for name in table.columns if name != label]
    if len(inputs) > 1:
        chosen = [each["name"] for each in inputs]
    else:
        lengths = inputs[0]["shape"][1:] or [1]
        count = 0 if -1 in lengths else math.prod(lengths)
        stated = [name for name in names if name in domain["columns"]]
        apart = [name for name in names if name not in domain["apart"]]
        numbers = [n for n in names if n in apart or pd.api.types.is_numeric_dtype(table[n])]
        if stated and count in (0, len(stated)):
            chosen = stated
        else:
            chosen = next((c for c in (names, numbers, apart) if len(c) == count), numbers or names)
    if missing := [name for name in chosen if name not in names]:
        raise ValueError(f"the model has an input {missing[0]!r}, and the rows have no such column")
    return chosen


def read_rows(path: str, label: str, domain: dict, inputs: list):
    """Rows with what an attacker may do to them.

    ``x`` float32 (n, d), ``y`` int64 (n,) places in ``classes`` (sorted labels, int64 or str). For each
    feature, float64 (d,): its range ``low`` to ``high``, and ``reach``, how far an eps of 1 goes (0 where
    nobody can change it); bool (d,): ``whole`` for whole numbers, ``up`` and ``down`` where it can only go
    that way. ``groups`` are the places of each one-hot group. ValueError for what is no finite number within
    its range.
    """
    from types import SimpleNamespace

    import numpy as np
    import pandas as pd

    table = pd.read_parquet(path)
    names = chosen_columns(table, label, domain, inputs)
    lists = len(names) == 1 and table[names[0]].dtype == object
    x = np.stack(table[names[0]].to_numpy()) if lists else table[names].to_numpy()
    if x.dtype.kind not in "biuf":
        raise ValueError(f"a column among {', '.join(names[:5])} holds no numbers")
    if not np.isfinite(x).all():
        raise ValueError("there are values that are no finite numbers: leave such rows out")
    plain = {"low": domain["low"], "high": domain["high"], "scale": 1.0, "whole": False, "fixed": False}
    plain |= {"group": "", "way": "any"}
    columns = []
    for at in range(x.shape[1]):
        column = domain["columns"].get(names[0 if lists else at])
        if column is None and domain["tabular"]:
            values = x[:, at].astype(float)
            seen = {"low": values.min(), "high": values.max(), "scale": 0.0}
            column = plain | seen | {"whole": bool((values == np.floor(values)).all())}
        columns.append(column or plain)
    low, high, scale = (np.array([c[k] for c in columns], float) for k in ("low", "high", "scale"))
    wrong = np.argwhere((x < low) | (x > high))
    if len(wrong):
        at = wrong[0][1]
        raise ValueError(f"feature {at} has {x[tuple(wrong[0])]}, outside of {low[at]:g} to {high[at]:g}")
    reach = np.where(scale > 0, scale, np.where(high > low, high - low, 1.0))
    fixed, whole = (np.array([bool(c[k]) for c in columns]) for k in ("fixed", "whole"))
    up, down = (np.array([c["way"] == way for c in columns]) for way in ("up", "down"))
    named = sorted({c["group"] for c in columns} - {""})
    groups = [[at for at, c in enumerate(columns) if c["group"] == name] for name in named]
    truth = table[label].to_numpy()
    if truth.dtype.kind == "f" and np.isfinite(truth).all() and (truth == np.floor(truth)).all():
        truth = truth.astype(np.int64)
    truth = truth.astype(np.int64) if truth.dtype.kind in "biu" else np.array([str(v) for v in truth])
    classes, y = np.unique(truth, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"all rows have the label {classes[0]}: there is nothing to tell apart")
    return SimpleNamespace(
        x=x.astype(np.float32), y=y.astype(np.int64), classes=classes, low=low, high=high,
        reach=np.where(fixed, 0.0, reach), whole=whole, up=up, down=down,
        groups=[np.array(group) for group in groups],
    )  # fmt: skip
