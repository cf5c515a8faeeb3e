"""What holds of golden pipelines in which chance decides, whichever way it went.

Each rule gets what was seen of a run: by the paths of steps ``logs`` has what they said, and ``made`` their
states and outputs, and ``artifacts``, as STEP:OUTPUT, what is in their metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "Rule",
    "accuracies",
    "accuracy",
    "charts",
    "coin_and_number",
    "irises",
    "lucky_number",
    "nested_coins",
    "one_coin",
    "says_the_coin",
]

Rule = Callable[[Mapping[str, Any]], bool]


def coin_and_number(seen: Mapping[str, Any]) -> bool:
    """Of a coin and a number, which heads takes from 0 to 9 and tails from 10 to 19, it says what is so."""
    coin, number, *said = sorted(seen["logs"].values(), key=len)
    more_than = {"heads": 5, "tails": 15}
    if coin.strip() not in more_than:
        coin, number = number, coin
    n, least = int(number), more_than[coin.strip()]
    return [words.strip() for words in said] == [
        f"{coin.strip()} and {n} {'>' if n > least else '<='} {least}!"
    ]


def one_coin(seen: Mapping[str, Any]) -> bool:
    """It says the coin, and flips and says a second where that is heads."""
    if not _says(seen, "", ""):
        return False
    heads = _coin(seen, "flip-coin-op") == "heads"
    if _ran(seen, "condition-1") != heads:
        return False
    return not heads or seen["logs"]["condition-1/print-op-3"].strip() == "condition test"


def nested_coins(seen: Mapping[str, Any]) -> bool:
    """It says three coins, and flips and says a fourth where the second and the third are the same."""
    inner = "condition-1/condition-2"
    same = _coin(seen, "flip-coin-op-2") == _coin(seen, "condition-1/flip-coin-op-3")
    said = [_says(seen, "", ""), _says(seen, "", "-2"), _says(seen, "condition-1/", "-3")]
    return all(said) and _ran(seen, inner) == same and (not same or _says(seen, f"{inner}/", "-4"))


def says_the_coin(coin: str, says: str, words: str = "{}") -> Rule:
    """The step ``says`` says what ``coin`` made, within ``words``."""
    return lambda seen: seen["logs"][says].strip() == words.format(seen["made"][coin][1]["Output"])


def accuracy(output: str) -> Rule:
    """An output is metrics with an accuracy from 0 to 100."""
    return lambda seen: 0 <= seen["outputs"][output]["metadata"]["accuracy"] <= 100


def accuracies(*steps: str) -> Rule:
    """Output ``metrics`` of each of these steps is metrics with an accuracy from 0 to 100."""
    return lambda seen: all(0 <= _metadata(seen, f"{step}:metrics")["accuracy"] <= 100 for step in steps)


def irises(seen: Mapping[str, Any]) -> bool:
    """Of 53 flowers 39 are trained on, and each of them is predicted once."""
    return _confused(seen, "train-model:metrics", ["Iris-Setosa", "Iris-Versicolour", "Iris-Virginica"]) == 39


def charts(seen: Mapping[str, Any]) -> bool:
    """A ROC curve goes up from (0, 0) to (1, 1); 105 of 150 irises are predicted, and mostly rightly."""
    points = _metadata(seen, "wine-classification:metrics")["confidenceMetrics"]
    curve = [(point["falsePositiveRate"], point["recall"]) for point in points]
    irises_seen = _confused(seen, "iris-sgdclassifier:metrics", ["Setosa", "Versicolour", "Virginica"])
    return (
        curve == sorted(curve)
        and (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
        and irises_seen == 105
        and 90 <= _metadata(seen, "digit-classification:metrics")["accuracy"] <= 100
    )


def lucky_number(seen: Mapping[str, Any]) -> bool:
    """Each turn says twice what its number is, and in the end all three are said."""
    numbers = [seen["made"][f"for-loop-1[{turn}]/int-0-to-9999"][1]["Output"] for turn in range(3)]
    if seen["logs"]["print-ints"].strip() != str(numbers):
        return False
    for turn, n in enumerate(numbers):
        prefix = f"for-loop-1[{turn}]/condition-branches"
        said = [words.strip() for path, words in seen["logs"].items() if path.startswith(prefix)]
        size, kind = "low" if n < 5000 else "high", "odd" if n % 2 else "even"
        if n != 5000 and [words for words in said if words] != [f"Got a {size} {kind} number!"] * 2:
            return False
    return True


def _metadata(seen: Mapping[str, Any], artifact: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = seen["artifacts"][artifact]["metadata"]
    return found


def _confused(seen: Mapping[str, Any], artifact: str, names: list[str]) -> int:
    """How many there are in a confusion matrix of these classes; -1 where it is of others."""
    matrix = _metadata(seen, artifact)["confusionMatrix"]
    rows = [line["row"] for line in matrix["rows"]]
    if [one["displayName"] for one in matrix["annotationSpecs"]] != names or len(rows) != len(names):
        return -1
    return sum(map(sum, rows))


def _coin(seen: Mapping[str, Any], step: str) -> str:
    return str(seen["made"][step][1]["Output"])


def _ran(seen: Mapping[str, Any], condition: str) -> bool:
    return any(path.startswith(f"{condition}/") for path in seen["made"])


def _says(seen: Mapping[str, Any], prefix: str, number: str) -> bool:
    """Whether ``print-op`` says what the ``flip-coin-op`` of the same number made."""
    said = seen["logs"][f"{prefix}print-op{number}"].strip()
    return bool(said == _coin(seen, f"{prefix}flip-coin-op{number}"))
