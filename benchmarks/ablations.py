"""What each kind of pair does: SRPO on the same trees with one kind after another, and two controls.

    python benchmarks/reflection_detector.py --train
    saro run recipes/ablation.yaml --out runs/full
    python benchmarks/ablations.py runs/full [--prompts 240] [--out benchmarks/results/ablations.json]

The first command trains the detector of reflections, whose weights are not shipped yet. The second is a whole run, of
which the RW model and its trees are used, with every step judged for reflection. The third trains one model for each
recipe of ``recipes/ablations`` on the pairs of the first so many prompts, and measures all of them, and RW, on the
held-out prompts and questions of the recipe. Done models and answers are kept under ``runs/full/ablations``.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from saro.config import RunConfig, load_config
from saro.files import read_json, read_jsonl, sha256_file, sha256_json, write_json, write_jsonl
from saro.journal import Journal
from saro.models import choose_compute, fingerprint
from saro.pipeline import open_run
from saro.progress import reporter
from saro.records import Tree
from saro.stages.evaluate import evaluate
from saro.stages.optimize import optimize
from saro.stages.pairs import build_pairs

RECIPES = Path(__file__).parent.parent / "recipes" / "ablations"
ORDER = ("outcome", "divergence", "early-reflection", "intervention", "shorter", "shuffled")
COLUMNS = ("harmful rejection", "jailbroken rejection", "benign acceptance", "look-alike acceptance", "capability")


def train(config: RunConfig, rw: Path, trees: Path, folder: Path) -> dict[str, Any]:
    """One model from its pairs, unless it is there from the same; how many pairs, by kind, and seconds."""
    record = folder / "done.json"
    settings = [config.pairs.model_dump(mode="json"), config.optimize.model_dump(mode="json"), config.seed]
    key = sha256_json([*settings, fingerprint(str(rw)), sha256_file(trees)])
    if not record.is_file() or read_json(record)["key"] != key:
        shutil.rmtree(folder, ignore_errors=True)
        build_pairs(config.pairs, trees, str(rw), folder / "pairs")
        compute = choose_compute(config.device, config.dtype)
        pairs = folder / "pairs" / "pairs.jsonl"
        timing = optimize(config.optimize, str(rw), pairs, folder / "optimize", config.seed, compute, reporter())
        kinds = read_json(folder / "optimize" / "summary.json")["kinds"]
        write_json(record, {"key": key, "pairs": kinds, "seconds": timing["seconds"]})
    return dict(read_json(record))


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--prompts", type=int, default=240, help="roll-out prompts whose trees give the pairs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablations.json"))
    options = parser.parse_args()
    place = open_run(options.run)
    folder = options.run / "ablations" / str(options.prompts)
    trees = folder / "trees.jsonl"
    write_jsonl(trees, list(read_jsonl(place.trees, Tree))[: options.prompts])
    configs = {name: load_config(RECIPES / f"{name}.yaml") for name in ORDER}
    trained = {name: train(config, place.rw, trees, folder / name) for name, config in configs.items()}
    models = {"rw": str(place.rw), **{name: str(folder / name / "optimize" / "model") for name in ORDER}}
    config = configs[ORDER[0]]
    with Journal(folder / "journal.sqlite") as journal:
        compute = choose_compute(config.device, config.dtype)
        evaluate(config.evaluate, models, folder / "evaluate", compute, journal, reporter())
    found = read_json(folder / "evaluate" / "summary.json")["models"]
    write_json(options.out, {"prompts": options.prompts, "trained": trained, "models": found})
    print(f"| pairs of {options.prompts} prompts | number | " + " | ".join(COLUMNS) + " | reasoning tokens |")
    print("|" + "---|" * (len(COLUMNS) + 3))
    for name, one in found.items():
        cells = [_cell(one["rates"][column]) for column in COLUMNS]
        number = sum(trained[name]["pairs"].values()) if name in trained else 0
        print(f"| {name} | {number} | " + " | ".join(cells) + f" | {one['mean_reasoning_tokens']:.0f} |")
    print(json.dumps(trained))


def _cell(rate: dict[str, float]) -> str:
    return " ".join([f"{100 * rate['value']:.0f}", f"[{100 * rate['low']:.0f}–{100 * rate['high']:.0f}]"])


if __name__ == "__main__":
    main()
